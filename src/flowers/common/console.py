"""What the terminal shows: plain lines and progress bars on standard error, results on standard output."""

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import tqdm

T = TypeVar("T")

_no_bars = contextvars.ContextVar("_no_bars", default=False)


def say(message: str) -> None:
    """Print a line of progress to standard error."""
    _print(message)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    _print(f"warning: {message}", style="yellow")


def fail(message: str) -> None:
    """Print an error to standard error."""
    _print(f"error: {message}", style="red")


def progress_bar(total: int | None, description: str, unit: str, done: int = 0) -> "tqdm.tqdm[Any]":
    """A progress bar on standard error (nothing is drawn where that is not a terminal); it begins at `done`."""
    import tqdm

    hidden = True if _no_bars.get() else None
    return tqdm.tqdm(
        total=total, initial=done, desc=description, unit=f" {unit}", disable=hidden, leave=False, dynamic_ncols=True
    )


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """No progress bars in here: something else shows how far it is."""
    before = _no_bars.set(True)
    try:
        yield
    finally:
        _no_bars.reset(before)


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "photos") -> Iterator[T]:
    """Iterate with a progress bar."""
    with progress_bar(total, description, unit) as bar:
        for item in items:
            yield item
            bar.update()


def _print(message: str, style: str | None = None) -> None:
    import rich.console

    # Without emoji: `:rose:` in the name of a file is its name.
    terminal = rich.console.Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    terminal.print(message, style=style, markup=False)
