"""What a model says of photos, in the same words in every place where it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BEST = 5  # classes named with their probabilities, fewer where there are fewer


@dataclass(frozen=True)
class Answer:
    """What is said of one photo.

    label: the most probable class; probability; unsure: whether that is below the threshold (never without one, always
    at one of 1); best: {"label": ..., "probability": ...} of the five most probable classes, that one first. Ties go to
    the class that comes first.
    """

    label: str
    probability: float
    unsure: bool
    best: list[dict[str, Any]]


def answers(classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None) -> list[Answer | None]:
    """An answer per row of probabilities (n, classes); None for a row of NaN, which stands for no readable photo."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    return [
        None if np.isnan(values).any() else _answer(classes, numbers, values, threshold)
        for numbers, values in zip(order, ranked, strict=True)
    ]


def table(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None, every_class: bool = False
) -> "pd.DataFrame":
    """The answers as a table, a row per row of probabilities (n, classes): label, probability, unsure, best.

    With `every_class` there is a column p(<class>) of each class, too. Of a row of NaN the label is missing and the
    probability NaN, it is not unsure, and nothing is best.
    """
    import pandas as pd

    rows = answers(classes, probabilities, threshold)
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


def _answer(
    classes: Sequence[str], order: NDArray[np.int64], ranked: NDArray[np.float64], threshold: float | None
) -> Answer:
    best = [
        {"label": classes[number], "probability": float(value)} for number, value in zip(order, ranked, strict=True)
    ]
    first = float(ranked[0])
    unsure = threshold is not None and (first < threshold or threshold >= 1)
    return Answer(classes[order[0]], first, unsure, best)
