"""The progress of a training on disk: a training that was killed resumes after its last finished epoch.

The file holds a line of JSON that lists the arrays, their bytes, and a checksum. It has up to 240 MB after every epoch,
which NumPy's `.npz` would take too long to write.
"""

import contextlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import console
from flowers.training.phases import Progress

_CHECKSUM = 4  # bytes


@dataclass
class Checkpoint:
    """The file of one training's progress; `key` is the hash of everything that determines its result."""

    path: Path
    key: str
    _failed: bool = field(default=False, init=False)

    def save(self, progress: Progress) -> None:
        """Replace the file atomically. If it cannot be written, warn once and let the training continue."""
        temporary = _temporary(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(progress, temporary)
            temporary.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not self._failed:
                console.warn(f"{self.path}: {error.strerror}; an interrupted training would lose these epochs")
            self._failed = True

    def _write(self, progress: Progress, temporary: Path) -> None:
        parts: dict[str, Mapping[Any, np.ndarray]] = {
            "last": progress.tensors,
            "optimizer": dict(enumerate(progress.optimizer)),
        }
        # Tensors of several names are written once: without averaging, and where the best epoch is the last.
        if progress.average is not progress.tensors:
            parts["average"] = progress.average
        if progress.best is not progress.average:
            parts["best"] = progress.best
        arrays = {f"{part}/{name}": values for part, named in parts.items() for name, values in named.items()}
        content = {
            "key": self.key,
            "rows": progress.rows,
            "best": [progress.best_epoch, *progress.best_score],
            "arrays": {name: [values.dtype.str, values.shape] for name, values in arrays.items()},
        }
        header: bytes | memoryview = json.dumps(content).encode() + b"\n"
        checksum = 0
        with temporary.open("wb") as file:
            for part in (header, *(np.ascontiguousarray(values).data for values in arrays.values())):
                checksum = zlib.crc32(part, checksum)
                file.write(part)
            file.write(checksum.to_bytes(_CHECKSUM))

    def load(self) -> Progress:
        """The saved progress; no progress if the file is missing, damaged or has another key."""
        try:
            content = memoryview(self.path.read_bytes())
        except OSError:
            return Progress()
        # After a power failure the renamed file may have arbitrary content.
        if zlib.crc32(content[:-_CHECKSUM]).to_bytes(_CHECKSUM) != content[-_CHECKSUM:]:
            return Progress()
        header, _, _ = bytes(content[: 2**24]).partition(b"\n")
        described = json.loads(header)
        return _progress(described, content[len(header) + 1 :]) if described["key"] == self.key else Progress()


def remove(path: Path) -> None:
    """Remove a checkpoint, finished or not."""
    _temporary(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_suffix(".partial")


def _progress(described: dict[str, Any], content: memoryview) -> Progress:
    parts: dict[str, dict[str, np.ndarray]] = {}
    start = 0
    for name, (kind, shape) in described["arrays"].items():
        values = np.frombuffer(content, kind, int(np.prod(shape)), start).reshape(shape)
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = values
        start += values.nbytes
    epoch, *score = described["best"]
    last = parts["last"]
    average = parts.get("average", last)
    optimizer = list(parts.get("optimizer", {}).values())
    return Progress(
        described["rows"], (score[0], score[1]), epoch, parts.get("best", average), last, average, optimizer
    )
