"""The user's cache folder: what it holds, how much of it activations may take, and clearing it."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from rich import filesize

from flowers.common import console, locks, paths
from flowers.common.errors import UserError

Kind = Literal["activations", "archives", "weights"]

LIMIT = "FLOWERS_CACHE_LIMIT"
DEFAULT_LIMIT = "20 GB"

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_STORES = "*-*-v*"  # the folders of activations: <weights>-<precision>-v<version>...
_WRITTEN_BY_NOW = 600  # seconds after which a temporary file is not one that is being written


def limit() -> int:
    """The bytes that all activations together may take; raises UserError where FLOWERS_CACHE_LIMIT is no size."""
    text = os.environ.get(LIMIT) or DEFAULT_LIMIT
    parts = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*(?:([kmgt])(i?))?(?:b|bytes?)?\s*", text, re.IGNORECASE | re.ASCII)
    if not parts:
        raise UserError(f"{LIMIT}: '{text}' is no size; write a number of bytes or, for example, 20 GB, 500MB or 2GiB")
    number, unit, binary = parts.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])


def activations_held(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of the folder of activations: nobody else looks for, computes or removes any.

    One for all weights and precisions: the backbone uses every core, so two at a time would not be done sooner, and
    whoever removes a shard knows that nobody is about to open it.
    """
    return locks.held(folder / ".lock", "waiting for another process that computes activations")


def note_use(arrays: Iterable[Path]) -> None:
    """Remember that these shards were used now."""
    for array in arrays:
        os.utime(array.with_suffix(".json"))


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left in the folder of activations, whose lock is held."""
    for file in _unfinished_activations(folder):
        with contextlib.suppress(PermissionError):  # Windows keeps what somebody has mapped
            file.unlink(missing_ok=True)


def evict(folder: Path, in_use: set[Path], allowed: int, room: int = 0) -> None:
    """Remove the least recently used shards until all take at most `allowed` bytes; those `in_use` (arrays) stay.

    With `room`, that many bytes more are made free, for what is about to be computed.

    The lock of the folder is held. A process that has a removed shard mapped reads on in it.
    """
    shards = sorted(_shards(folder), key=lambda shard: (shard.used, shard.array))
    excess = sum(shard.size for shard in shards) + room - allowed
    removed = 0
    for shard in shards:
        if removed < excess and shard.array not in in_use:
            with contextlib.suppress(PermissionError):  # as above; an array without description goes another time
                shard.description.unlink(missing_ok=True)
                shard.array.unlink(missing_ok=True)
                removed += shard.size
    shown = filesize.decimal(allowed)
    if removed:
        console.say(f"Removed {filesize.decimal(removed)} of the longest unused activations ({LIMIT} is {shown})")
    needed = sum(shard.size for shard in shards if shard.array in in_use)
    if needed > allowed and not room:
        console.warn(
            f"the activations of this run alone take {filesize.decimal(needed)}, more than {LIMIT} allows ({shown}), "
            f"so no others are kept; set it to more, for example {LIMIT}='{-(-2 * needed // 10**9)} GB'"
        )


def clear(kind: Kind | Literal["all"]) -> None:
    """Remove what the cache holds of a kind, and print the bytes freed; whoever is making some of it is waited for."""
    for each, of_kind in _KINDS.items():
        if kind in (each, "all"):
            freed = of_kind.remove(paths.cache_folder() / each)
            print(f"{each}: {freed:,} bytes freed")


def show() -> None:
    """Print what the cache holds; raises UserError where its limit is no size."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    allowed, folder = limit(), paths.cache_folder()
    entries = {kind: list(of_kind.entries(folder / kind)) for kind, of_kind in _KINDS.items()}
    total = sum(entry.size for listed in entries.values() for entry in listed)
    if not any(entries.values()):
        print(f"{folder} holds nothing")
        return
    print(folder)
    table = Table()
    table.add_column("kind")
    table.add_column("what", overflow="fold")
    for column in ("views", "size", "last used"):
        table.add_column(column, justify="right")
    for kind, listed in entries.items():
        for number, entry in enumerate(listed):
            views = "" if entry.views is None else f"{entry.views:,}"
            used = "" if entry.used is None else _ago(entry.used)
            # As Text: a bracket in the name of a file is no markup.
            table.add_row("" if number else kind, Text(entry.name), views, filesize.decimal(entry.size), used)
        table.add_section()
    table.add_row("total", "", "", filesize.decimal(total), "")
    Console().print(table)
    stored = sum(entry.size for entry in entries["activations"])
    print(f"Activations take {filesize.decimal(stored)} of the {filesize.decimal(allowed)} they may ({LIMIT}).")


@dataclass(frozen=True)
class _Shard:
    """Activations on disk: the array (.npy) and its description (.json), whose time is that of its last use."""

    array: Path
    size: int  # of both
    used: float  # seconds since 1970

    @property
    def description(self) -> Path:
        """Written last and removed first: an array without it does not count."""
        return self.array.with_suffix(".json")


@dataclass(frozen=True)
class _Entry:
    """A line of the table."""

    name: str
    size: int
    views: int | None = None
    used: float | None = None


@dataclass(frozen=True)
class _Kind:
    """What the cache does with one of its folders: list it, and empty it and return the bytes freed."""

    entries: Callable[[Path], Iterable[_Entry]]
    remove: Callable[[Path], int]


def _archives(folder: Path) -> Iterator[_Entry]:
    """Downloads, and what was put beside them by hand."""
    for file in _archive_files(folder):
        yield _Entry(file.name, _size(file))
    yield from _unfinished(folder.glob(".*.part"))


def _remove_archives(folder: Path) -> int:
    names = {file.name for file in _archive_files(folder)}
    names |= {staging.name[1:].removesuffix(".part") for staging in folder.glob(".*.part")}
    freed = 0
    for name in sorted(names):
        with locks.held(folder / f".{name}.lock", f"waiting for another process that is fetching {name}"):
            freed += sum(_remove(place) for place in (folder / name, folder / f".{name}.part"))
    return freed


def _archive_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file() and not file.name.startswith("."))


def _weights(folder: Path) -> Iterator[_Entry]:
    for file in sorted(folder.glob("resnet50-*.npz")):
        yield _Entry(file.name, _size(file))
    yield from _unfinished(folder.glob(".weights-*.npz"))


def _remove_weights(folder: Path) -> int:
    """They are put in place whole and without a lock; a temporary file of the last minutes may be somebody's."""
    long_ago = time.time() - _WRITTEN_BY_NOW
    abandoned = [file for file in folder.glob(".weights-*.npz") if file.stat().st_mtime < long_ago]
    return sum(_remove(file) for file in (*folder.glob("resnet50-*.npz"), *abandoned))


def _activations(folder: Path) -> Iterator[_Entry]:
    groups: dict[tuple[str, str, str], list[_Shard]] = {}
    for shard in _shards(folder):
        weights, precision, _ = shard.array.parent.parent.name.split("-", 2)
        groups.setdefault((weights[:8], precision, shard.array.parent.name), []).append(shard)
    for names, shards in sorted(groups.items()):
        views, size = sum(map(_views, shards)), sum(shard.size for shard in shards)
        yield _Entry(" ".join(names), size, views, max(shard.used for shard in shards))
    yield from _unfinished(_unfinished_activations(folder))


def _remove_activations(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with activations_held(folder):
        return sum(_remove(store) for store in folder.glob(_STORES))


_KINDS = {
    "archives": _Kind(_archives, _remove_archives),
    "weights": _Kind(_weights, _remove_weights),
    "activations": _Kind(_activations, _remove_activations),
}


def _shards(folder: Path) -> Iterator[_Shard]:
    for description in folder.glob(f"{_STORES}/*/*.json"):
        with contextlib.suppress(FileNotFoundError):  # gone while the others were listed
            used, array = description.stat().st_mtime, description.with_suffix(".npy")
            yield _Shard(array, _size(description) + _size(array), used)


def _views(shard: _Shard) -> int:
    """How many a shard holds; of a damaged one, none: they are computed again."""
    try:
        return len(json.loads(shard.description.read_text())["keys"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _unfinished_activations(folder: Path) -> list[Path]:
    arrays = folder.glob(f"{_STORES}/*/*.npy")
    orphans = [array for array in arrays if not array.with_suffix(".json").exists()]
    return [*folder.glob(f"{_STORES}/*/*.partial"), *orphans]


def _unfinished(places: Iterable[Path]) -> Iterator[_Entry]:
    """A line for what is being made, or was when somebody's process was killed."""
    if size := sum(map(_size, places)):
        yield _Entry("unfinished", size)


def _remove(place: Path) -> int:
    """Remove a file or a folder; return the bytes it took."""
    size = _size(place)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    return size


def _size(place: Path) -> int:
    """Bytes in a file, or in all files of a folder; none in what has just gone."""
    if place.is_dir():
        return sum(_size(file) for file in place.rglob("*") if not file.is_dir())
    try:
        return place.lstat().st_size
    except FileNotFoundError:
        return 0


def _ago(moment: float) -> str:
    """How long ago that was; before this week, the date."""
    seconds = time.time() - moment
    if seconds >= 7 * 86400:
        return date.fromtimestamp(moment).isoformat()
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if count := int(seconds // length) if seconds > 0 else 0:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
