"""Unpack verified archives into a folder that appears only when it is complete."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from flowers.common import console
from flowers.common.errors import UserError

# The filter `data` is new in Python 3.11.4; Debian 12 has 3.11.2.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def unpack(files: Sequence[Path], destination: Path) -> None:
    """Unpack every .tar, .tgz, .tar.* and .zip of `files` into `destination`, and copy the other files into it.

    `destination` must not exist, and appears when it is complete. Raises UserError that names the archive, also where
    a member is a link or a device, has an absolute path, or has `..` in its path.
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
            with zipfile.ZipFile(file) as archive:
                for member in console.progress(archive.infolist(), f"unpacking {file.name}", unit="files"):
                    _check(file, member.filename, not stat.S_ISLNK(member.external_attr >> 16))
                    archive.extract(member, folder)
        elif file.suffix == ".tgz" or ".tar" in file.suffixes:
            with tarfile.open(file, "r|*") as tar:
                for entry in console.progress(tar, f"unpacking {file.name}", unit="files"):
                    _check(file, entry.name, entry.isreg() or entry.isdir())
                    tar.extract(entry, folder, **_FILTER)
        else:
            shutil.copyfile(file, folder / file.name)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: not a whole archive ({detail}); delete it to fetch it again") from None


def _check(file: Path, name: str, plain: bool) -> None:
    if not plain:
        raise UserError(f"{file}: '{name}' is a link or a device; not unpacked")
    if ".." in PurePath(name).parts or PurePath(name).anchor:
        raise UserError(f"{file}: '{name}' lies outside the folder; not unpacked")
