"""Which files of a folder are scored, and in which order."""

import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowers.serving import sources

_HELD = 65_536  # names of one folder in memory at a time

# The same for Spark, whose globs know no letter case.
GLOB = (
    "*.{" + ",".join("".join(f"[{letter}{letter.upper()}]" for letter in suffix) for suffix in sources.SUFFIXES) + "}"
)


def walk(folder: Path) -> Iterator[str]:
    """The photos below a folder, by their suffix, as paths relative to it with forward slashes.

    The order is always the same: by name, folder by folder. Names that begin with a dot are left out; links to folders
    are followed, but not round in circles. However many there are, few names are held.
    """
    return _walk(str(folder), "", ())


def unseen_by_spark(names: Iterable[str]) -> int:
    """How many of these paths Spark's readers pass over: a file or a folder in them begins with an underscore."""
    return sum(any(part.startswith("_") for part in name.split("/")) for name in names)


def shown(path: str) -> str:
    """A path as a table can hold it: bytes that are no UTF-8 are written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    status = os.stat(folder)  # noqa: PTH116 - strings all the way: a Path a photo takes as long as the walk itself
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for name, is_folder in _in_order(folder):
        if is_folder:
            yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", (*above, here))
        elif sources.is_image(name):
            yield prefix + name


def _in_order(folder: str) -> Iterator[tuple[str, bool]]:
    """Name and whether it is a folder, of what a folder holds; one of millions is read several times, not held."""
    last = ""
    while True:
        with os.scandir(folder) as entries:
            later = (
                (entry.name, sources.is_folder(entry))
                for entry in entries
                if entry.name > last and not entry.name.startswith(".")
            )
            page = heapq.nsmallest(_HELD, later)
        yield from page
        if len(page) < _HELD:
            return
        last = page[-1][0]
