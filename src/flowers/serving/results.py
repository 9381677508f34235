"""Predictions from probabilities, in one form for the command line, HTTP, MLflow and batch scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BEST = 5  # classes named with their probabilities, fewer where there are fewer


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; the first of equally probable classes wins."""

    label: str  # the most probable class
    probability: float
    unsure: bool  # low confidence: below the threshold; never without one, always at a threshold of 1
    best: list[dict[str, Any]]  # label and probability of the five most probable classes, in descending order


def predictions(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None
) -> list[Prediction | None]:
    """A prediction per row of probabilities (n, classes); None for a row of NaN, which is an unreadable image."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    return [
        None if np.isnan(values).any() else _prediction([classes[number] for number in numbers], values, threshold)
        for numbers, values in zip(order, ranked, strict=True)
    ]


def table(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None, every_class: bool = False
) -> "pd.DataFrame":
    """Columns label, probability, unsure, best (of a row of NaN: missing, NaN, False, []), if wanted p(<class>)."""
    import pandas as pd

    rows = predictions(classes, probabilities, threshold)
    found = pd.DataFrame(
        {
            "label": pd.Series([row.label if row else None for row in rows], dtype=str),
            "probability": np.array([row.probability if row else np.nan for row in rows], np.float64),
            "unsure": np.array([row is not None and row.unsure for row in rows], bool),
            "best": pd.Series([row.best if row else [] for row in rows], dtype=object),
        }
    )
    if not every_class:
        return found
    each = pd.DataFrame(probabilities.astype(np.float64), columns=[f"p({name})" for name in classes])
    return pd.concat([found, each], axis=1)


def _prediction(labels: list[str], ranked: NDArray[np.float64], threshold: float | None) -> Prediction:
    best = [{"label": label, "probability": float(value)} for label, value in zip(labels, ranked, strict=True)]
    first = float(ranked[0])
    unsure = threshold is not None and (first < threshold or threshold >= 1)
    return Prediction(labels[0], first, unsure, best)
