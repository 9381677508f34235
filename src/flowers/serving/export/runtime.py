"""What the runtimes of all formats share: a network that is used like the trained model."""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common.errors import UserError
from flowers.model.predicted import Predicted, predicted
from flowers.serving.export import description, seal
from flowers.serving.export.description import Description
from flowers.serving.stream import BATCH


class Exported(ABC):
    """An exported network: `classes`, `threshold`, `size`, and `predict(images)`, from any number of threads."""

    batch = BATCH
    examples: Path | None = None

    def __init__(self, about: Description) -> None:
        self.about, self.classes, self.threshold, self.size = about, about.classes, about.threshold, about.size
        self._turn = threading.Lock()

    def predict(self, images: NDArray[np.uint8]) -> Predicted:
        """Predictions for RGB images (n, size, size, 3). The network cannot tell unknown images."""
        return predicted(self.probabilities(images))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities (n, classes) float32 of RGB images (n, size, size, 3), some at a time."""
        found = np.empty((len(images), len(self.classes)), np.float32)
        for start in range(0, len(images), self.batch):
            part = np.ascontiguousarray(images[start : start + self.batch])
            with self._turn:  # each uses all cores already, and not every runtime may be called twice at once
                found[start : start + self.batch] = self._infer(part)
        return found

    @abstractmethod
    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of at most `batch` images."""


def opened(file: Path, runtime: str, read: Callable[[], tuple[Any, str | bytes | None]]) -> tuple[Any, Description]:
    """A sealed file's network and description; `read` opens it with a runtime. Raises UserError for any other file."""
    try:
        seal.check(file)
        network, text = read()
        return network, description.read(text)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    except UserError:
        raise
    except Exception as error:  # each runtime raises errors of its own
        reason = " ".join(str(error).split())[-200:]
        raise UserError(f"{file}: {runtime} cannot load this network: {reason}") from None


def digest(file: Path) -> str:
    """SHA-256 (hex) of a file."""
    with file.open("rb") as opened_file:
        return hashlib.file_digest(opened_file, "sha256").hexdigest()
