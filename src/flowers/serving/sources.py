"""The images that names stand for: files, folders with everything below them, and standard input."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from flowers.common import console
from flowers.data.formats import SUFFIXES

STANDARD_INPUT = "-"

# formats.SUFFIXES as a glob pattern of Spark, which distinguishes upper and lower case.
GLOB = "*.{" + ",".join("".join(f"[{one.lower()}{one.upper()}]" for one in suffix) for suffix in SUFFIXES) + "}"


@dataclass(frozen=True)
class Image:
    """One input."""

    path: str  # its name in the results
    place: PurePath  # relative, in a folder of results
    content: Path | bytes | Exception  # its file, its bytes, or why there is nothing to read (OSError or ValueError)


def read(image: Image) -> Path | bytes:
    """The file or bytes of an image; raises its OSError or ValueError."""
    if isinstance(image.content, Exception):
        raise image.content
    return image.content


class Images:
    """The images that names stand for, in their order, listed while they are drawn.

    A folder stands for the files below it that have the suffix of an image, in sorted order. Linked folders are
    followed, hidden files are skipped. A folder that cannot be listed, or holds no image, is an Image with an error.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """`-` among the names is one image on standard input."""
        self._names = names
        self._skipped: Counter[str] = Counter()  # files in folders without the suffix of an image, by suffix

    def __iter__(self) -> Iterator[Image]:
        self._skipped.clear()
        for name in self._names:
            path = Path(name)
            if name == STANDARD_INPUT:
                # Read here, because Ctrl-C would not end another thread that waits for input.
                yield Image(name, PurePath("stdin"), sys.stdin.buffer.read())
            elif not name or not path.is_dir():  # Path("") would be the current folder
                yield Image(name, PurePath(path.name), path)
            else:
                inside = self._below(path, PurePath(), frozenset())
                yield next(inside, Image(name, PurePath(), ValueError("no image in this folder")))
                yield from inside

    def count(self) -> int:
        """The number of images at present; only folders are read."""
        named = [name for name in self._names if name != STANDARD_INPUT]
        return len(self._names) - len(named) + sum(1 for _ in Images(named))

    def report_skipped(self) -> None:
        """Say how many files of folders, among those drawn so far, were skipped, and their most frequent suffixes."""
        if not self._skipped:
            return
        files = "1 file was" if self._skipped.total() == 1 else f"{self._skipped.total():,} files were"
        common = ", ".join(suffix or "none" for suffix, _ in self._skipped.most_common(5))
        console.say(f"{files} skipped: the name has no image suffix ({common})")

    def _below(self, folder: Path, place: PurePath, above: frozenset[Path]) -> Iterator[Image]:
        """`above` are the folders around this one, without links: a link may lead back to them."""
        try:
            real = folder.resolve(strict=True)
            with os.scandir(folder) as entries:
                inside = sorted((entry.name, _is_folder(entry)) for entry in entries if entry.name[0] != ".")
        except OSError as error:
            yield Image(str(folder), place, error)
            return
        if real in above:
            return
        for name, nested in inside:
            if nested:
                yield from self._below(folder / name, place / name, above | {real})
            elif (suffix := Path(name).suffix.lower())[1:] in SUFFIXES:
                yield Image(str(folder / name), place / name, folder / name)
            else:
                self._skipped[suffix] += 1


def walk(folder: Path) -> Iterator[str]:
    """The image files below a folder as relative paths with forward slashes, in the order of `Images`."""
    for image in Images([str(folder)]):
        if image.place.parts:  # else the folder itself: empty, or not listable
            yield image.place.as_posix()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to what this user may not see
        return False
