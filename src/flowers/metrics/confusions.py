"""Wrong predictions: those of the highest probability, and the pairs of classes that are confused."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowers.metrics.classification import Labels, Probabilities


@dataclass(frozen=True)
class Pair:
    """Images of class `label` predicted as class `predicted`: their `rows`, the highest probability first."""

    label: int
    predicted: int
    rows: NDArray[np.int64]


def surest(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Rows of the wrongly predicted images, the highest probability first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def pairs(labels: Labels, probabilities: Probabilities) -> list[Pair]:
    """Every pair of true and predicted class, the most frequent first; ties by the highest probability."""
    predicted, found = probabilities.argmax(axis=1), dict[tuple[int, int], list[int]]()
    for row in surest(labels, probabilities).tolist():
        found.setdefault((int(labels[row]), int(predicted[row])), []).append(row)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))  # stable: ties keep their order
    return [Pair(label, guess, np.array(rows)) for (label, guess), rows in ordered]
