"""What a model finds on images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST = 3  # classes, fewer where there are fewer


@dataclass(frozen=True)
class Predicted:
    """Predictions for n images, a row each."""

    probabilities: NDArray[np.float32]  # (n, classes), calibrated
    novelty: NDArray[np.float32]  # (n,): above 0 the image is of no known class; NaN from a model that cannot tell
    nearest: NDArray[np.int32]  # (n, 3): the classes with the most similar training images; (n, 0) if it cannot tell

    def __len__(self) -> int:
        return len(self.novelty)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> "Predicted":
        return Predicted(self.probabilities[rows], self.novelty[rows], self.nearest[rows])

    def spread(self, rows: Sequence[int], count: int) -> "Predicted":
        """The same predictions in these rows of `count`; the others are NaN."""
        probabilities = np.full((count, self.probabilities.shape[1]), np.nan, np.float32)
        novelty, nearest = np.full(count, np.nan, np.float32), np.zeros((count, self.nearest.shape[1]), np.int32)
        probabilities[rows], novelty[rows], nearest[rows] = self.probabilities, self.novelty, self.nearest
        return Predicted(probabilities, novelty, nearest)


def predicted(
    probabilities: NDArray[np.float32], ratios: NDArray[np.float32] | None = None, threshold: float | None = None
) -> Predicted:
    """Predictions from probabilities and, if the model has a detector, its ratios (n, classes) and their threshold."""
    count = len(probabilities)
    if ratios is None or threshold is None:
        return Predicted(probabilities, np.full(count, np.nan, np.float32), np.empty((count, 0), np.int32))
    nearest = np.argsort(-ratios, axis=1, kind="stable")[:, :NEAREST].astype(np.int32)
    return Predicted(probabilities, (threshold - ratios.max(axis=1)).astype(np.float32), nearest)


def joined(parts: Sequence[Predicted]) -> Predicted:
    """All rows of the parts, at least one, in their order."""
    return Predicted(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.novelty for part in parts]),
        np.concatenate([part.nearest for part in parts]),
    )
