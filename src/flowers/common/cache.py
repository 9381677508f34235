"""The user's cache folder: the size of each kind, the limit of the activations, eviction, and clearing."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
    """Hold the lock of the folder of activations: no other process looks for, computes or removes any.

    There is one lock for all weights and precisions: the backbone uses every core, so two processes at a time would not
    be faster, and no shard is removed while another process is about to open it.
    """
    return locks.held(folder / ".lock", "waiting for another process that computes activations")


def note_use(arrays: Iterable[Path]) -> None:
    """Record that these shards were used now."""
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
            with contextlib.suppress(PermissionError):  # as above; the array is removed as unfinished later
                shard.array.with_suffix(".json").unlink(missing_ok=True)
                shard.array.unlink(missing_ok=True)
                removed += shard.size
    shown = filesize.decimal(allowed)
    if removed:
        console.say(f"Removed {filesize.decimal(removed)} of the least recently used activations ({LIMIT} is {shown})")
    needed = sum(shard.size for shard in shards if shard.array in in_use)
    if needed > allowed and not room:
        console.warn(
            f"the activations of this run alone take {filesize.decimal(needed)}, more than {LIMIT} allows ({shown}), "
            f"so no others are kept; set it to more, for example {LIMIT}='{-(-2 * needed // 10**9)} GB'"
        )


def clear(kind: Kind | Literal["all"]) -> None:
    """Remove a kind from the cache and print the bytes freed; waits for a process that adds to it."""
    for each, remove in _REMOVE.items():
        if kind in (each, "all"):
            print(f"{each}: {remove(paths.cache_folder() / each):,} bytes freed")


def show() -> None:
    """Print the size and the folder of each kind; raises UserError if FLOWERS_CACHE_LIMIT is not a size."""
    allowed, folder = limit(), paths.cache_folder()
    sizes = {kind: _size(folder / kind) for kind in _REMOVE}
    for kind, size in sizes.items():
        print(f"{filesize.decimal(size):>10}  {folder / kind}")
    print(f"Limit of the activations ({LIMIT}): {filesize.decimal(allowed)}")


@dataclass(frozen=True)
class _Shard:
    """Activations on disk: the array (.npy) and its description (.json), whose time is that of its last use.

    The description is written last and removed first: an array without it does not count.
    """

    array: Path
    size: int  # of both
    used: float  # seconds since 1970


def _remove_archives(folder: Path) -> int:
    names = {file.name for file in folder.glob("[!.]*") if file.is_file()}
    names |= {staging.name[1:].removesuffix(".part") for staging in folder.glob(".*.part")}
    freed = 0
    for name in sorted(names):
        with locks.held(folder / f".{name}.lock", f"waiting for another process that fetches {name}"):
            freed += sum(_remove(place) for place in (folder / name, folder / f".{name}.part"))
    return freed


def _remove_weights(folder: Path) -> int:
    """Weights are put in place whole, without a lock; a recent temporary file may still be written by a process."""
    long_ago = time.time() - _WRITTEN_BY_NOW
    abandoned = [file for file in folder.glob(".weights-*.npz") if file.stat().st_mtime < long_ago]
    return sum(_remove(file) for file in (*folder.glob("resnet50-*.npz"), *abandoned))


def _remove_activations(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with activations_held(folder):
        return sum(_remove(store) for store in folder.glob(_STORES))


_REMOVE: dict[Kind, Callable[[Path], int]] = {
    "archives": _remove_archives,
    "weights": _remove_weights,
    "activations": _remove_activations,
}


def _shards(folder: Path) -> Iterator[_Shard]:
    for description in folder.glob(f"{_STORES}/*/*.json"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it meanwhile
            used, array = description.stat().st_mtime, description.with_suffix(".npy")
            yield _Shard(array, _size(description) + _size(array), used)


def _remove(place: Path) -> int:
    """Remove a file or a folder; return the bytes it took."""
    size = _size(place)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    return size


def _size(place: Path) -> int:
    """Bytes in a file, or in all files of a folder; 0 if another process removed it meanwhile."""
    if place.is_dir():
        return sum(_size(file) for file in place.rglob("*") if not file.is_dir())
    try:
        return place.lstat().st_size
    except FileNotFoundError:
        return 0
