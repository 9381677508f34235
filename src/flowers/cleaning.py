"""Free what nothing refers to any more: objects in DVC's cache, and what the MLflow store keeps of deleted runs.

Everything else stays: data/, build/ with the checkpoint of an interrupted training, and the user's cache folder.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich import filesize

from flowers import console
from flowers.errors import UserError

_CACHE = Path(".dvc/cache")
_EXPERIMENTS = Path(".dvc/tmp/exps")  # where DVC runs those that do not run in the workspace
_KEPT = ("--workspace", "--all-commits", "--all-experiments")


@dataclass(frozen=True)
class _Garbage:
    """What a place holds without a reference, in words and bytes."""

    what: str
    size: int


@dataclass(frozen=True)
class _Place:
    """How garbage is found in a place, and removed."""

    find: Callable[[], _Garbage | None]
    remove: Callable[[], None]


def run(agreed: Callable[[], bool]) -> None:
    """Print what would go; if `agreed`, remove it and print the bytes freed.

    A place in which it cannot be told what is referred to is left alone, with a warning that says why.
    """
    found = {name: garbage for name, place in _PLACES.items() if (garbage := _found(name, place))}
    if not found:
        print("Nothing to remove.")
        return
    _show(found)
    if not agreed():
        print("Nothing was removed.")
        return
    for name, garbage in found.items():
        _PLACES[name].remove()
        print(f"{name}: {garbage.size:,} bytes freed")


def _found(name: str, place: _Place) -> _Garbage | None:
    try:
        return place.find()
    except UserError as reason:
        console.warn(f"{name} is left alone: {reason}")
        return None


def _show(found: dict[str, _Garbage]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("place", "without reference"):
        table.add_column(column)
    table.add_column("size", justify="right")
    for name, garbage in found.items():
        table.add_row(name, garbage.what, filesize.decimal(garbage.size))
    Console().print(table)


def _in_dvc() -> _Garbage | None:
    files = [Path(file) for file in re.findall(r"^Removing (.+)$", _dvc_gc("--dry"), re.MULTILINE)]
    for file in files:
        if not file.is_relative_to(_CACHE.resolve()):
            raise UserError(f"{file} is not in {_CACHE}: other projects may share that cache")
    return _Garbage(_count(len(files), "object"), _size(files)) if files else None


def _remove_from_dvc() -> None:
    _dvc_gc("--force")


def _dvc_gc(option: str) -> str:
    """What `dvc gc` says. Raises UserError if it fails, or would remove what something refers to."""
    if reason := _not_seen_by_gc():
        raise UserError(reason)
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", "gc", *_KEPT, option]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reasons = re.findall(r"^ERROR: (.+)$", done.stderr, re.MULTILINE) or done.stderr.splitlines()[-1:]
        raise UserError(f"dvc gc failed: {'; '.join(reasons)}")
    return done.stdout


def _not_seen_by_gc() -> str | None:
    """What refers to objects although it is neither a commit nor an experiment yet, and how to settle that."""
    if _git("for-each-ref", "refs/exps/celery/stash"):
        return "experiments wait in the queue; run them, or remove them with `dvc queue remove --queued`"
    if running := [*_EXPERIMENTS.glob("tmp*"), *_EXPERIMENTS.glob("standalone/tmp*")]:
        return f"an experiment is running in {running[0]} (or was killed there: delete that folder)"
    stashed = ("--first-parent", "-m", "--format=%gd", "refs/stash", "--", "*.dvc", "dvc.lock")
    if _git("log", "--walk-reflogs", *stashed):
        return "`git stash` holds other versions of it; apply or drop them (git stash list)"
    return None


def _git(*arguments: str) -> str:
    """What git says; nothing where there is no repository or no such reference."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        raise UserError("git is not installed, which knows the commits that refer to it") from None


def _in_mlflow() -> _Garbage | None:
    from flowers.tracking import deleted

    found = deleted.find()
    if not found.runs + found.models:
        return None
    return _Garbage(f"{_count(found.runs, 'run')}, {_count(found.models, 'model')}", _size(found.files))


def _remove_from_mlflow() -> None:
    from flowers.tracking import deleted

    deleted.remove()


_PLACES = {
    "DVC cache": _Place(_in_dvc, _remove_from_dvc),
    "MLflow store": _Place(_in_mlflow, _remove_from_mlflow),
}


def _size(files: Iterable[Path]) -> int:
    """The bytes that are free once the files are gone: none for one that has another name (a hard link) elsewhere."""
    names: dict[tuple[int, int], int] = {}
    size = 0
    for file in files:
        status = file.stat()
        inode = status.st_dev, status.st_ino
        names[inode] = names.get(inode, 0) + 1
        if names[inode] == status.st_nlink:
            size += status.st_size
    return size


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
