"""The user's cache folder: its sizes, the limit for activations and their eviction, and clearing it."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flowers.common import console, locks, paths
from flowers.common.errors import UserError

Kind = Literal["archives", "weights", "activations"]

LIMIT = "FLOWERS_CACHE_LIMIT"
DEFAULT_LIMIT = "20 GB"

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_STORES = "*-*-v*"  # the folders of activations: <weights>-<precision>-v<version>...
_WRITTEN_BY_NOW = 600  # seconds after which no process is writing a temporary file any more


def limit() -> int:
    """The bytes that all activations together may take; raises UserError if FLOWERS_CACHE_LIMIT is no size."""
    text = os.environ.get(LIMIT) or DEFAULT_LIMIT
    parts = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*(?:([kmgt])(i?))?(?:b|bytes?)?\s*", text, re.IGNORECASE | re.ASCII)
    if not parts:
        raise UserError(f"{LIMIT}: '{text}' is no size; write a number of bytes or, for example, 20 GB, 500MB or 2GiB")
    number, unit, binary = parts.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])


def activations_held(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of the folder of activations: no other process reads the index, computes or removes any.

    One lock serves all weights and precisions: the backbone uses every core, so two processes at a time would not be
    faster, and a process that removes a shard can rely on no other one being about to open it.
    """
    return locks.held(folder / ".lock", "Waiting for another process that computes activations")


def note_use(arrays: Iterable[Path]) -> None:
    """Record now as the time of last use of these shards."""
    for array in arrays:
        os.utime(array.with_suffix(".json"))


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left in the folder of activations, whose lock is held."""
    orphans = [array for array in folder.glob(f"{_STORES}/*/*.npy") if not array.with_suffix(".json").exists()]
    for file in [*folder.glob(f"{_STORES}/*/*.partial"), *orphans]:
        with contextlib.suppress(PermissionError):  # Windows does not remove a file that a process has mapped
            file.unlink(missing_ok=True)


def evict(folder: Path, in_use: set[Path], allowed: int, room: int = 0) -> None:
    """Remove the least recently used shards until all take at most `allowed` bytes; those `in_use` (arrays) stay.

    `room` bytes more are freed for what is about to be computed. The lock of the folder is held. A process that has a
    removed shard mapped can still read it.
    """
    shards = sorted(_shards(folder), key=lambda shard: (shard.used, shard.array))
    excess = sum(shard.size for shard in shards) + room - allowed
    removed = 0
    for shard in shards:
        if removed < excess and shard.array not in in_use:
            with contextlib.suppress(PermissionError):  # as above; the array is then removed as unfinished later
                shard.array.with_suffix(".json").unlink(missing_ok=True)
                shard.array.unlink(missing_ok=True)
                removed += shard.size
    if removed:
        console.say(f"Removed {_shown(removed)} of the least recently used activations ({LIMIT} is {_shown(allowed)})")
    needed = sum(shard.size for shard in shards if shard.array in in_use)
    if needed > allowed and not room:
        console.warn(
            f"the activations of this run alone take {_shown(needed)}, more than {LIMIT} allows ({_shown(allowed)}), "
            f"so no others are kept; set it to more, for example {LIMIT}='{-(-2 * needed // 10**9)} GB'"
        )


def show() -> None:
    """Print the size and the path of each kind; raises UserError if the limit is no size."""
    allowed = _shown(limit())
    for kind in get_args(Kind):
        size = _shown(sum(map(_size, _content(kind))))
        note = f" (at most {allowed}: {LIMIT})" if kind == "activations" else ""
        print(f"{kind:<11} {size:>10}  {paths.cache_folder() / kind}{note}")


def clear(kind: Kind | Literal["all"]) -> None:
    """Remove a kind from the cache and print the bytes freed; waits for a process that is writing it."""
    for each in get_args(Kind) if kind == "all" else (kind,):
        freed = 0
        for place in _content(each):
            with _held(place):
                freed += _size(place)
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        print(f"{each}: {freed:,} bytes freed")


def _content(kind: Kind) -> list[Path]:
    """The files and folders of a kind; FLOWERS_CACHE may hold other files, which are not the cache's."""
    folder = paths.cache_folder() / kind
    if kind == "archives":
        return [*(file for file in folder.glob("[!.]*") if file.is_file()), *folder.glob(".*.part")]
    if kind == "weights":
        long_ago = time.time() - _WRITTEN_BY_NOW
        abandoned = [file for file in folder.glob(".weights-*.npz") if file.stat().st_mtime < long_ago]
        return [*folder.glob("resnet50-*.npz"), *abandoned]
    return list(folder.glob(_STORES))


def _held(place: Path) -> contextlib.AbstractContextManager[None]:
    """The lock under which a file or folder of the cache is written; weights are put in place whole, without one."""
    if place.parent.name == "activations":
        return activations_held(place.parent)
    if place.parent.name == "archives":
        name = place.name.removeprefix(".").removesuffix(".part")
        return locks.held(place.with_name(f".{name}.lock"), f"Waiting for another process that fetches {name}")
    return contextlib.nullcontext()


@dataclass(frozen=True)
class _Shard:
    """Activations on disk: the array (.npy) and its description (.json), whose time is that of its last use.

    The description is written last and removed first: an array without it does not count.
    """

    array: Path
    size: int  # of both
    used: float  # seconds since 1970


def _shards(folder: Path) -> Iterator[_Shard]:
    for description in folder.glob(f"{_STORES}/*/*.json"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it meanwhile
            used, array = description.stat().st_mtime, description.with_suffix(".npy")
            yield _Shard(array, _size(description) + _size(array), used)


def _size(place: Path) -> int:
    """Bytes in a file, or in all files of a folder; 0 if it was removed meanwhile."""
    if place.is_dir():
        return sum(_size(file) for file in place.rglob("*") if not file.is_dir())
    try:
        return place.lstat().st_size
    except FileNotFoundError:
        return 0


def _shown(size: int) -> str:
    from rich import filesize

    return filesize.decimal(size)
