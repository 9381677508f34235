"""What the terminal shows: plain lines and progress bars on standard error, results on standard output."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.console

T = TypeVar("T")


def say(message: str) -> None:
    """Print a line of progress to standard error."""
    rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"warning: {message}", style="yellow", markup=False
    )


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "photos") -> Iterator[T]:
    """Iterate with a progress bar on standard error (nothing is drawn where that is not a terminal)."""
    import tqdm

    yield from tqdm.tqdm(items, desc=description, total=total, unit=f" {unit}", disable=None, leave=False)
