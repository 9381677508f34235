"""Files that hold a digest of themselves: a damaged one raises an error, and so does one of another program.

The digest is written into the file's own metadata as `flowers-sha256:` and 64 hexadecimal digits. It is the SHA-256 of
the file in which these digits are zeros.
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

_MARK = b"flowers-sha256:"
_DIGITS = 64
BLANK = (_MARK + b"0" * _DIGITS).decode()  # what a file's metadata hold before `seal`
_CHUNK = 1 << 22


def seal(file: Path) -> None:
    """Write the digest in the place of `BLANK`."""
    place, _ = _place(file)
    digest = _digest(file, place)
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(digest.encode())


def check(file: Path) -> None:
    """Raise ValueError if the file was not sealed or has changed since, OSError if it cannot be read."""
    place, found = _place(file)
    if _digest(file, place) != found:
        raise ValueError("it is damaged: it has changed since it was written; export it again")


def _place(file: Path) -> tuple[int, str]:
    """Where the digits begin, and what they are."""
    with file.open("rb") as opened:
        if not file.stat().st_size:
            raise ValueError("it is empty")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.rfind(_MARK)
            if place < 0:
                raise ValueError("not a file that `flowers export` wrote, or one that was cut short")
            place += len(_MARK)
            return place, content[place : place + _DIGITS].decode("ascii", "replace")


def _digest(file: Path, place: int) -> str:
    total = hashlib.sha256()
    for start, chunk in _chunks(file):
        begin, end = max(place - start, 0), min(place + _DIGITS - start, len(chunk))
        if begin < end:
            chunk = chunk[:begin] + b"0" * (end - begin) + chunk[end:]
        total.update(chunk)
    return total.hexdigest()


def _chunks(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as opened:
        start = 0
        while chunk := opened.read(_CHUNK):
            yield start, chunk
            start += len(chunk)
