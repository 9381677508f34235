"""Unpack verified archives into a folder that appears only when everything is in it."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from flowers.common.console import progress
from flowers.common.errors import UserError


def unpack(files: Sequence[Path], destination: Path) -> None:
    """Unpack every .tar, .tgz, .tar.* and .zip of `files` into `destination`, and copy the other files into it.

    `destination` must not exist. The files are unpacked in a temporary folder beside it, which is then renamed. Raises
    UserError that names the archive if it is damaged, or if a member of a tar would be written outside the folder
    (members of a zip never are: zipfile drops drives, leading slashes and `..`).
    """
    staging = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
    try:
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
            with zipfile.ZipFile(file) as zipped:
                for member in progress(zipped.infolist(), f"unpacking {file.name}", unit="files"):
                    zipped.extract(member, folder)
        elif file.suffix == ".tgz" or ".tar" in file.suffixes:
            with tarfile.open(file, "r|*") as archive:
                for member in progress(archive, f"unpacking {file.name}", unit="files"):
                    archive.extract(member, folder, filter="data")
        else:
            shutil.copyfile(file, folder / file.name)
    except tarfile.FilterError as error:
        raise UserError(f"{file}: {error}; the archive is not safe to unpack") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: damaged archive ({detail}); delete it, and the next run fetches it again") from None
