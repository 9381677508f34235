"""Archives to a folder: unpacked in a temporary place, nothing outside it, and moved as a whole."""

import contextlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from flowers.common.console import progress
from flowers.common.errors import UserError

MAX_BYTES = 16 * 1024**3  # unpacked, of one archive
MAX_MEMBERS = 200_000


def unpack(files: Sequence[Path], destination: Path) -> None:
    """Unpack every .tar, .tgz, .tar.* and .zip of `files` into `destination`, and copy the other files into it.

    `destination` appears when everything is in it, and not before; it must not exist. Members that would lie outside
    it, links and devices are refused, and archives that unpack to more than MAX_BYTES or MAX_MEMBERS. Raises UserError
    that names the archive, and the member.
    """
    staging = destination.with_name(f".{destination.name}.part")
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a killed run
        staging.mkdir(parents=True)
        for file in files:
            with _explained(file):
                _unpack_one(file, staging)
        staging.rename(destination)
    except OSError as error:
        raise UserError(f"{error.filename or staging}: {error.strerror or error}, while unpacking") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_one(file: Path, folder: Path) -> None:
    if file.suffix == ".zip":
        _unpack_zip(file, folder)
    elif file.suffix == ".tgz" or ".tar" in file.suffixes:
        _unpack_tar(file, folder)
    else:
        shutil.copyfile(file, folder / file.name)


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn the ways in which an archive can be broken into one."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: not a whole archive ({detail}); delete it, so that it is fetched again") from None


def _unpack_tar(file: Path, folder: Path) -> None:
    total = 0
    with tarfile.open(file, "r|*") as archive:
        for count, member in enumerate(progress(archive, f"unpacking {file.name}", unit="files"), start=1):
            target = _target(file, folder, member.name)
            total += member.size
            _check_limits(file, count, total)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                content = archive.extractfile(member)
                assert content is not None  # only what is not a file has none
                _write(content, target, member.size)
            else:
                raise UserError(f"{file}: member '{member.name}' is a link or a device; refused")


def _unpack_zip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_limits(file, len(members), sum(member.file_size for member in members))
        for member in progress(members, f"unpacking {file.name}", total=len(members), unit="files"):
            target = _target(file, folder, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive comes from Windows
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{file}: member '{member.filename}' is a link or a device; refused")
            if member.flag_bits & 1:
                raise UserError(f"{file}: member '{member.filename}' is encrypted; unpack it by hand")
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(member) as content:
                    _write(content, target, member.file_size)


def _target(file: Path, folder: Path, name: str) -> Path:
    """Where a member goes; raises UserError when that is not inside `folder`, on this system or another."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)  # the latter splits at / and at \
    if posix.is_absolute() or windows.anchor or ".." in windows.parts or "\0" in name:
        raise UserError(f"{file}: member '{name}' would lie outside the folder that it is unpacked in; refused")
    return folder / posix


def _check_limits(file: Path, members: int, size: int) -> None:
    if members > MAX_MEMBERS:
        raise UserError(f"{file}: it holds more than {MAX_MEMBERS:,} members (a decompression bomb?)")
    if size > MAX_BYTES:
        raise UserError(f"{file}: it unpacks to more than {MAX_BYTES / 1024**3:g} GiB (a decompression bomb?)")


def _write(content: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)
    if target.stat().st_size != size:
        raise EOFError(f"'{target.name}' is cut short")
