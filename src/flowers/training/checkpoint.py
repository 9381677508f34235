"""The progress of a training on disk, so that one that was killed goes on from its last finished epoch.

The file is a line of JSON, which says what lies where, then the arrays' bytes, then a checksum. It is written after
every epoch and holds up to 240 MB with three blocks unfrozen, so it has to be quick: NumPy's `.npz` is not.
"""

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import console
from flowers.training.phases import Progress

_CHECKSUM = 4  # bytes


@dataclass
class Checkpoint:
    """One file that holds the progress of one training: `key` is the hash of everything that decides its result."""

    path: Path
    key: str
    _failed: bool = field(default=False, init=False)

    def save(self, progress: Progress) -> None:
        """Replace the file in one step; a kill at any moment leaves the new one or the one before.

        Where it cannot be written, a full disk say, that is said once and the training goes on.
        """
        temporary = _temporary(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(progress, temporary)
            temporary.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not self._failed:
                console.warn(
                    f"{self.path}: {error.strerror}; if this training is interrupted, it loses what it did now"
                )
            self._failed = True

    def _write(self, progress: Progress, temporary: Path) -> None:
        arrays = dict(_named(progress))
        said = {
            "key": self.key,
            "rows": progress.rows,
            "best": [progress.best_epoch, *progress.best_score],
            "best_is_last": progress.best is progress.tensors,
            "arrays": {name: [values.dtype.str, values.shape] for name, values in arrays.items()},
        }
        header: bytes | memoryview = json.dumps(said).encode() + b"\n"
        checksum = 0
        with temporary.open("wb") as file:
            for part in (header, *(np.ascontiguousarray(values).data for values in arrays.values())):
                checksum = zlib.crc32(part, checksum)
                file.write(part)
            file.write(checksum.to_bytes(_CHECKSUM))

    def load(self) -> Progress:
        """The progress that was saved; none at all where there is no file, a damaged one, or one of another key."""
        try:
            content = memoryview(self.path.read_bytes())
        except OSError:
            return Progress()
        # A sudden loss of power may leave a file of the right name with anything in it.
        if zlib.crc32(content[:-_CHECKSUM]).to_bytes(_CHECKSUM) != content[-_CHECKSUM:]:
            return Progress()
        header, _, _ = bytes(content[: 2**24]).partition(b"\n")
        said = json.loads(header)
        return _progress(said, content[len(header) + 1 :]) if said["key"] == self.key else Progress()


def remove(path: Path) -> None:
    """Remove a checkpoint, finished or not."""
    _temporary(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_suffix(".partial")


def _named(progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    if progress.best is not progress.tensors:  # it is, after the best epoch
        yield from ((f"best/{name}", values) for name, values in progress.best.items())
    yield from ((f"last/{name}", values) for name, values in progress.tensors.items())
    yield from ((f"optimizer/{number}", values) for number, values in enumerate(progress.optimizer))


def _progress(said: dict[str, Any], content: memoryview) -> Progress:
    parts: dict[str, dict[str, np.ndarray]] = {"best": {}, "last": {}, "optimizer": {}}
    start = 0
    for name, (kind, shape) in said["arrays"].items():
        values = np.frombuffer(content, kind, int(np.prod(shape)), start).reshape(shape)
        part, _, rest = name.partition("/")
        parts[part][rest] = values
        start += values.nbytes
    epoch, *score = said["best"]
    best = parts["last" if said["best_is_last"] else "best"]
    return Progress(said["rows"], (score[0], score[1]), epoch, best, parts["last"], list(parts["optimizer"].values()))
