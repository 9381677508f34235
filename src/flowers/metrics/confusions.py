"""Mistakes worth a look: those the model was surest of, and classes that are taken for each other. Touches no file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowers.metrics.classification import Labels, Probabilities


@dataclass(frozen=True)
class Pair:
    """Photos of one class that were taken for another: `rows`, the surest mistake first."""

    label: int
    predicted: int
    rows: NDArray[np.int64]


def surest(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """The rows of the photos that are named wrongly, the highest probability first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def pairs(labels: Labels, probabilities: Probabilities) -> list[Pair]:
    """Every pair of true and predicted class, the most frequent first; of equally frequent ones the surest."""
    predicted, found = probabilities.argmax(axis=1), dict[tuple[int, int], list[int]]()
    for row in surest(labels, probabilities).tolist():
        found.setdefault((int(labels[row]), int(predicted[row])), []).append(row)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))  # stable: the surest stays before others
    return [Pair(label, guess, np.array(rows)) for (label, guess), rows in ordered]
