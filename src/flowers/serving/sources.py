"""The images that names stand for: files, folders with everything below them, and standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

STANDARD_INPUT = "-"

# Of the formats of flowers.data.images. They select files in folders; a file that is named itself may have any suffix.
SUFFIXES = (
    *("bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "mpo", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff"),
    "webp",
)


@dataclass(frozen=True)
class Image:
    """One input: its name in the results, and its relative place in a folder of results.

    `content` is its file, its encoded bytes, or the OSError or ValueError for which there is nothing to read.
    """

    path: str
    place: PurePath
    content: Path | bytes | Exception


def is_image(name: str) -> bool:
    """Whether a file's name has the suffix of an image."""
    return name.rpartition(".")[2].lower() in SUFFIXES


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
        self.skipped = 0  # files in folders without the suffix of an image, among those drawn so far

    def __iter__(self) -> Iterator[Image]:
        self.skipped = 0
        for name in self._names:
            if name == STANDARD_INPUT:
                yield Image(name, PurePath("stdin"), sys.stdin.buffer.read())
            else:
                yield from self._named(name)

    def count(self) -> int:
        """The number of images at present; only folders are read."""
        return sum(1 if name == STANDARD_INPUT else sum(1 for _ in self._named(name)) for name in self._names)

    def _named(self, name: str) -> Iterator[Image]:
        path = Path(name)
        if not name or not path.is_dir():  # Path("") would be the current folder
            yield Image(name, PurePath(path.name), path)
            return
        empty = True
        for image in self._below(path, PurePath(), frozenset()):
            yield image
            empty = False
        if empty:
            yield Image(name, PurePath(), ValueError("no image in this folder"))

    def _below(self, folder: Path, place: PurePath, above: frozenset[tuple[int, int]]) -> Iterator[Image]:
        """`above` are the device and inode numbers of the folders around this one: a link may lead back to them."""
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                inside = sorted((entry.name, is_folder(entry)) for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            yield Image(str(folder), place, error)
            return
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for name, nested in inside:
            if nested:
                yield from self._below(folder / name, place / name, above | {identity})
            elif is_image(name):
                yield Image(str(folder / name), place / name, folder / name)
            else:
                self.skipped += 1


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
