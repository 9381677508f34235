"""Terminal output: lines and progress bars on standard error, which leaves standard output to results."""

import contextlib
import contextvars
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
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


def listed(names: Sequence[str], separator: str = ", ", shown: int = 10, where: Path | None = None) -> str:
    """The first names for a message, and how many more there are: 'a, b, and 3,998 more, in build/split.json'."""
    left = len(names) - shown
    rest = [f"and {left:,} more{f', in {where}' if where else ''}"] if left > 0 else []
    return separator.join([*names[:shown], *rest])


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 in percent for a message: 0.852 is '85.2 %'."""
    return f"{100 * share:.{digits}f} %"


def progress_bar(total: int | None, description: str, unit: str, done: int = 0) -> "tqdm.tqdm[Any]":
    """A progress bar on standard error, drawn only if that is a terminal; it begins at `done`."""
    import tqdm

    hidden = True if _no_bars.get() else None
    return tqdm.tqdm(
        total=total, initial=done, desc=description, unit=f" {unit}", disable=hidden, leave=False, dynamic_ncols=True
    )


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Hide the progress bars of this block, for a caller that shows the progress itself."""
    before = _no_bars.set(True)
    try:
        yield
    finally:
        _no_bars.reset(before)


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Iterate with a progress bar."""
    with progress_bar(total, description, unit) as bar:
        for item in items:
            yield item
            bar.update()


def _print(message: str, style: str | None = None) -> None:
    import rich.console

    # Without emoji and markup: `:rose:` and `[red]` are parts of file names.
    terminal = rich.console.Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    terminal.print(message, style=style, markup=False)
