"""What a model says of photos, as a table: the same columns in every place where it is asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BEST = 5  # classes named with their probabilities, fewer where there are fewer


def table(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None, every_class: bool = False
) -> pd.DataFrame:
    """A row per photo, of its probabilities (n, classes).

    Columns: label, the most probable class; probability; unsure, whether that is below the threshold (never without
    one); best, a list of {"label": ..., "probability": ...} of the five most probable classes, that one first; and,
    with `every_class`, p(<class>) of each class. Ties go to the class that comes first.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    first = ranked[:, 0]
    found = pd.DataFrame(
        {
            "label": pd.Series([classes[number] for number in order[:, 0]], dtype=str),
            "probability": first,
            "unsure": first < threshold if threshold is not None else np.zeros(len(first), bool),
            "best": pd.Series([_best(classes, *row) for row in zip(order, ranked, strict=True)], dtype=object),
        }
    )
    if not every_class:
        return found
    each = pd.DataFrame(probabilities.astype(np.float64), columns=[f"p({name})" for name in classes])
    return pd.concat([found, each], axis=1)


def _best(classes: Sequence[str], order: NDArray[np.int64], ranked: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {"label": classes[number], "probability": float(value)} for number, value in zip(order, ranked, strict=True)
    ]
