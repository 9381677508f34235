"""The photos that names stand for: files, folders with all that is below them, and standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

STANDARD_INPUT = "-"

# Of the formats of flowers.data.images. A file that is named itself is tried whatever its name is.
SUFFIXES = (
    *("bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "mpo", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff"),
    "webp",
)


@dataclass(frozen=True)
class Photo:
    """What should be a photo: how an answer names it, and its place below a folder of results.

    `content` is its file, its encoded bytes, or, an OSError or ValueError, why there is nothing to read.
    """

    path: str
    place: PurePath
    content: Path | bytes | Exception


def is_photo(name: str) -> bool:
    """Whether a file's name ends as an image's does."""
    return name.rpartition(".")[2].lower() in SUFFIXES


def read(photo: Photo) -> Path | bytes:
    """The photo's file or bytes; raises the OSError or ValueError that it stands for."""
    if isinstance(photo.content, Exception):
        raise photo.content
    return photo.content


class Photos:
    """The photos that names stand for, in their order, listed while they are drawn.

    A folder stands for the files below it whose names end as an image's do, in sorted order, and for those of linked
    folders; hidden files are passed over. A folder that cannot be listed, or holds no photo, is a Photo without
    content.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """`-` among the names is one photo on standard input."""
        self._names = names
        self.left_out = 0  # files of folders whose names do not end as an image's do, among those drawn so far

    def __iter__(self) -> Iterator[Photo]:
        self.left_out = 0
        for name in self._names:
            if name == STANDARD_INPUT:
                yield Photo(name, PurePath("stdin"), sys.stdin.buffer.read())
            else:
                yield from self._named(name)

    def count(self) -> int:
        """How many there are now; nothing is read but folders."""
        one = sum(name == STANDARD_INPUT for name in self._names)
        return one + sum(1 for name in self._names if name != STANDARD_INPUT for _ in self._named(name))

    def _named(self, name: str) -> Iterator[Photo]:
        path = Path(name)
        if not name or not path.is_dir():  # Path("") would be the current folder
            yield Photo(name, PurePath(path.name), path)
            return
        empty = True
        for photo in self._below(path, PurePath(), frozenset()):
            yield photo
            empty = False
        if empty:
            yield Photo(name, PurePath(), ValueError("no photo in this folder"))

    def _below(self, folder: Path, place: PurePath, above: frozenset[tuple[int, int]]) -> Iterator[Photo]:
        """`above` are the device and inode numbers of the folders around this one: a link may lead back to them."""
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                inside = sorted((entry.name, is_folder(entry)) for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            yield Photo(str(folder), place, error)
            return
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for name, nested in inside:
            if nested:
                yield from self._below(folder / name, place / name, above | {identity})
            elif is_photo(name):
                yield Photo(str(folder / name), place / name, folder / name)
            else:
                self.left_out += 1


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
