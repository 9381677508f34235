"""Unpack verified archives into a folder that appears only when it is complete."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from flowers.common import console
from flowers.common.errors import UserError


def unpack(files: Sequence[Path], destination: Path) -> None:
    """Unpack every .tar, .tgz, .tar.* and .zip of `files` into `destination`, and copy the other files into it.

    `destination` must not exist, and appears when it is complete. Members outside of it, links and devices raise an
    error (tarfile's filter `data`). Raises UserError that names the archive.
    """
    staging = destination.with_name(f".{destination.name}.part")
    try:
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
        staging.mkdir(parents=True)
        for file in files:
            _unpack_one(file, staging)
        staging.rename(destination)
    except OSError as error:
        raise UserError(f"{error.filename or staging}: {error.strerror or error}, while unpacking") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_one(file: Path, folder: Path) -> None:
    try:
        if file.suffix == ".zip":
            _unpack_zip(file, folder)
        elif file.suffix == ".tgz" or ".tar" in file.suffixes:
            with tarfile.open(file, "r|*") as archive:
                members = console.progress(archive, f"unpacking {file.name}", unit="files")
                archive.extractall(folder, members=members, filter=_only_files)  # noqa: S202 - filtered
        else:
            shutil.copyfile(file, folder / file.name)
    except tarfile.FilterError as error:
        raise UserError(f"{file}: {error}; not unpacked") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: not a whole archive ({detail}); delete it to fetch it again") from None


def _only_files(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    if not (member.isreg() or member.isdir()):
        raise tarfile.SpecialFileError(member)
    return tarfile.data_filter(member, folder)


def _unpack_zip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in console.progress(archive.infolist(), f"unpacking {file.name}", unit="files"):
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{file}: '{member.filename}' is a link; not unpacked")
            archive.extract(member, folder)  # drops `..`, drives and leading slashes
