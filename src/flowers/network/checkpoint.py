"""The progress of a training on disk, so that one that was killed goes on from its last finished epoch."""

import json
import zipfile
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
        arrays = {f"best/{name}": values for name, values in progress.best.items()}
        arrays |= {f"last/{name}": values for name, values in progress.tensors.items()}
        arrays |= {f"optimizer/{number:04}": values for number, values in enumerate(progress.optimizer)}
        said = {"key": self.key, "rows": progress.rows, "best": [progress.best_epoch, *progress.best_score]}
        arrays["progress"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        temporary.replace(self.path)

    def load(self) -> Progress:
        """The progress that was saved; none at all where there is no file, a damaged one, or one of another key."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                said = json.loads(file["progress"].tobytes())
                if said["key"] != self.key:
                    return Progress()
                arrays = dict(file)
        # A sudden loss of power may leave a file of the right name with anything in it.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return Progress()

        def part(name: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(name): values for key, values in arrays.items() if key.startswith(name)}

        epoch, *score = said["best"]
        optimizer = list(part("optimizer/").values())
        return Progress(said["rows"], (score[0], score[1]), epoch, part("best/"), part("last/"), optimizer)

    def remove(self) -> None:
        """Remove the file: the training is finished."""
        self.path.with_suffix(".partial").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
