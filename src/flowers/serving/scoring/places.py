"""Where images are read and predictions are written: a folder of this machine, or one in a bucket (s3://...).

Names in a place are relative, with forward slashes.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from flowers.common import locks
from flowers.common.errors import UserError
from flowers.data.formats import SUFFIXES
from flowers.serving import sources

_LOCK = ".lock"


class Place(Protocol):
    """A folder, as scoring needs it; `name` is its absolute address."""

    name: str

    def exists(self) -> bool:
        """Whether there is such a folder."""

    def images(self) -> tuple[list[str], sources.Images | None]:
        """The names of the image files in it, always in the same order, and what was listed, to report the rest."""

    def image(self, name: str) -> Path | bytes:
        """An image's file or its bytes. Raises OSError for one that is gone, and UserError where the place fails."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Create the folder and let one process of this machine write into it at a time."""

    def names(self, folder: str = "") -> list[str]:
        """What is directly in a folder, sorted; nothing where there is none."""

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file: afterwards it holds all of the content, and before that nothing of it."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it, if it is there."""


class Disk:
    """A folder of this machine."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.name = str(self._folder.resolve())

    def exists(self) -> bool:  # noqa: D102
        return self._folder.is_dir()

    def images(self) -> tuple[list[str], sources.Images | None]:  # noqa: D102
        listed = sources.Images([str(self._folder)])
        return [image.place.as_posix() for image in listed if image.place.parts], listed

    def image(self, name: str) -> Path | bytes:  # noqa: D102
        return self._folder / name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:  # noqa: D102
        self._folder.mkdir(parents=True, exist_ok=True)
        with locks.held(self._folder / _LOCK, f"Another flowers score writes into {self._folder}; waiting for it"):
            yield

    def names(self, folder: str = "") -> list[str]:  # noqa: D102
        with contextlib.suppress(FileNotFoundError):
            found = sorted(path.name for path in (self._folder / folder).iterdir())
            return [name for name in found if folder or name != _LOCK]
        return []

    def read(self, name: str) -> bytes:  # noqa: D102
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:  # noqa: D102
        file = self._folder / name
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f".{file.name}")
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # a marker must not exist without the files that it stands for
        _move(temporary, file)

    def remove(self, name: str) -> None:  # noqa: D102
        place = self._folder / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


class Bucket:
    """A folder on a file system that fsspec knows, such as s3://bucket/folder; an object is written whole or not."""

    def __init__(self, address: str) -> None:
        """Raises UserError where the driver of the scheme is missing."""
        import fsspec

        try:
            self._system, root = fsspec.core.url_to_fs(address.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UserError(f"{address}: {error}; for s3:// pip install -e '.[team]'") from None
        self._root = root.rstrip("/")
        self.name = self._system.unstrip_protocol(self._root)

    def exists(self) -> bool:  # noqa: D102
        with self._explained():
            return bool(self._system.isdir(self._root))

    def images(self) -> tuple[list[str], sources.Images | None]:  # noqa: D102
        with self._explained():
            found = self._system.find(self._root)
        names = [PurePosixPath(path[len(self._root) + 1 :]) for path in sorted(found)]
        hidden = {name for name in names if any(part.startswith(".") for part in name.parts)}
        return [str(name) for name in names if name.suffix.lower()[1:] in SUFFIXES and name not in hidden], None

    def image(self, name: str) -> Path | bytes:  # noqa: D102
        # Another error is no property of the image: the shard is not written, and the next run begins with it.
        return self.read(name)

    def held(self) -> contextlib.AbstractContextManager[None]:  # noqa: D102
        return contextlib.nullcontext()  # no lock is possible there; two processes would write the same files

    def names(self, folder: str = "") -> list[str]:  # noqa: D102
        self._system.invalidate_cache()
        with self._explained(), contextlib.suppress(FileNotFoundError):
            place = f"{self._root}/{folder}".rstrip("/")
            found = self._system.ls(place, detail=False)
            return sorted(PurePosixPath(path).name for path in found if path.rstrip("/") != place)
        return []

    def read(self, name: str) -> bytes:  # noqa: D102
        with self._explained():
            content: bytes = self._system.cat_file(f"{self._root}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:  # noqa: D102
        with self._explained():
            self._system.pipe_file(f"{self._root}/{name}", content)

    def remove(self, name: str) -> None:  # noqa: D102
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self._system.rm(f"{self._root}/{name}", recursive=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the network into a UserError; that a file is missing is not one of them."""
        try:
            yield
        except (FileNotFoundError, UserError):
            raise
        except Exception as error:  # each driver has its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self.name}: {reason}; the same command continues later") from error


def place(address: str) -> Place:
    """The folder at a path or an address."""
    return Bucket(address) if "://" in address else Disk(address)


def inside(one: Place, other: Place) -> bool:
    """Whether one folder is the other or lies in it."""
    return f"{one.name}/".startswith(f"{other.name.rstrip('/')}/")


def _move(temporary: Path, file: Path) -> None:
    temporary.replace(file)
