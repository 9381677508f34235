"""The progress of a training on disk, so that one that was killed goes on from its last finished epoch.

The file is a line of JSON, which says what lies where, and then the arrays' bytes. It is written after every epoch and
holds up to 240 MB with three blocks unfrozen, so it has to be quick: NumPy's `.npz` is not.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowers.network.training import Progress


@dataclass(frozen=True)
class Checkpoint:
    """One file that holds the progress of one training: `key` is the hash of everything that decides its result."""

    path: Path
    key: str

    def save(self, progress: Progress) -> None:
        """Replace the file in one step; a kill at any moment leaves the new one or the one before."""
        arrays = dict(_named(progress))
        said = {
            "key": self.key,
            "rows": progress.rows,
            "best": [progress.best_epoch, *progress.best_score],
            "best_is_last": progress.best is progress.tensors,
            "arrays": {name: [values.dtype.str, values.shape] for name, values in arrays.items()},
            "checksum": _checksum(arrays),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        with temporary.open("wb") as file:
            file.write(json.dumps(said).encode() + b"\n")
            for values in arrays.values():
                values.tofile(file)
        temporary.replace(self.path)

    def load(self) -> Progress:
        """The progress that was saved; none at all where there is no file, a damaged one, or one of another key."""
        try:
            with self.path.open("rb") as file:
                said = json.loads(file.readline())
                if said["key"] != self.key:
                    return Progress()
                arrays = {
                    name: np.fromfile(file, kind, int(np.prod(shape))).reshape(shape)
                    for name, (kind, shape) in said["arrays"].items()
                }
            # A sudden loss of power may leave a file of the right name with anything in it.
            if _checksum(arrays) != said["checksum"]:
                return Progress()
        except (OSError, ValueError, KeyError, TypeError):
            return Progress()

        def part(name: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(name): values for key, values in arrays.items() if key.startswith(name)}

        epoch, *score = said["best"]
        last = part("last/")
        best = last if said["best_is_last"] else part("best/")
        return Progress(said["rows"], (score[0], score[1]), epoch, best, last, list(part("optimizer/").values()))

    def remove(self) -> None:
        """Remove the file: the training is finished."""
        self.path.with_suffix(".partial").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _named(progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    if progress.best is not progress.tensors:  # it is, after the best epoch
        yield from ((f"best/{name}", values) for name, values in progress.best.items())
    yield from ((f"last/{name}", values) for name, values in progress.tensors.items())
    yield from ((f"optimizer/{number}", values) for number, values in enumerate(progress.optimizer))


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    checksum = 0
    for values in arrays.values():
        checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
    return checksum
