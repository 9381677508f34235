"""Predictions from probabilities, in one form for the command line, HTTP, MLflow and batch scoring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowers.model.predicted import Predicted

if TYPE_CHECKING:
    import pandas as pd

BEST = 5  # classes named with their probabilities, fewer where there are fewer


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; the first of equally probable classes wins."""

    label: str  # the most probable class
    probability: float
    unsure: bool  # low confidence: below the threshold; never without one, always at a threshold of 1
    known: bool | None  # whether the image is of one of the classes; None from a model that cannot tell
    novelty: float | None  # above 0: unknown
    nearest: list[str]  # the classes with the most similar training images; empty from a model that cannot tell
    best: list[dict[str, Any]]  # label and probability of the five most probable classes, in descending order


def predictions(classes: Sequence[str], predicted: Predicted, threshold: float | None) -> list[Prediction | None]:
    """A prediction per row; None for a row of NaN, which is an unreadable image."""
    probabilities = predicted.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    rows = zip(order, ranked, predicted.novelty.tolist(), predicted.nearest, strict=True)
    return [
        None if np.isnan(values).any() else _prediction(classes, numbers, values, threshold, novelty, nearest)
        for numbers, values, novelty, nearest in rows
    ]


def table(
    classes: Sequence[str], predicted: Predicted, threshold: float | None, every_class: bool = False
) -> "pd.DataFrame":
    """A row per prediction: label, probability, unsure, known, novelty, nearest, best, and if wanted p(<class>).

    A row of NaN has a missing label, NaN, False and []; so has `known` in every row of a model that cannot tell.
    """
    import pandas as pd

    rows = predictions(classes, predicted, threshold)
    found = pd.DataFrame(
        {
            "label": pd.Series([row.label if row else None for row in rows], dtype=str),
            "probability": np.array([row.probability if row else np.nan for row in rows], np.float64),
            "unsure": np.array([row is not None and row.unsure for row in rows], bool),
            "known": pd.array([row.known if row else None for row in rows], "boolean"),
            "novelty": pd.array([row.novelty if row else None for row in rows], "Float64"),  # NaN is no JSON
            "nearest": pd.Series([row.nearest if row else [] for row in rows], dtype=object),
            "best": pd.Series([row.best if row else [] for row in rows], dtype=object),
        }
    )
    if not every_class:
        return found
    each = pd.DataFrame(predicted.probabilities.astype(np.float64), columns=[f"p({name})" for name in classes])
    return pd.concat([found, each], axis=1)


def _prediction(
    classes: Sequence[str],
    numbers: NDArray[np.intp],
    ranked: NDArray[np.float64],
    threshold: float | None,
    novelty: float,
    nearest: NDArray[np.int32],
) -> Prediction:
    best = [{"label": classes[one], "probability": float(value)} for one, value in zip(numbers, ranked, strict=True)]
    first = float(ranked[0])
    tells = not math.isnan(novelty)
    return Prediction(
        label=best[0]["label"],
        probability=first,
        unsure=threshold is not None and (first < threshold or threshold >= 1),
        known=novelty <= 0 if tells else None,
        novelty=novelty if tells else None,
        nearest=[classes[number] for number in nearest],
        best=best,
    )
