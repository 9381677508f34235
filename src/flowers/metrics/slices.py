"""Accuracy by slice: images grouped by one number, in groups of about equal size."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import classification

GROUPS = 3


def accuracy(values: NDArray[Any], right: NDArray[np.bool_]) -> pd.DataFrame:
    """A row per group of images in ascending order of their values; `values` and `right` are (n,).

    Columns: low and high (the range of values), photos (number of images), accuracy, and its 95 % Wilson interval
    accuracy_low and accuracy_high. Equal values stay together; up to `GROUPS` distinct values are groups of their own.
    """
    table = pd.DataFrame({"group": _groups(values), "value": values, "right": right})
    found = table.groupby("group").agg(
        low=("value", "min"), high=("value", "max"), photos=("right", "size"), accuracy=("right", "mean")
    )
    correct = table.groupby("group")["right"].sum()
    low, high = classification.wilson_interval(correct.to_numpy(), found["photos"].to_numpy())
    return found.assign(accuracy_low=low, accuracy_high=high).reset_index(drop=True)


def _groups(values: NDArray[Any]) -> NDArray[np.int64]:
    """The group of each image, (n,), from the rank of its value."""
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) <= GROUPS:
        return place
    middle = (counts.cumsum() - counts / 2) / len(values)
    groups: NDArray[np.int64] = (middle * GROUPS).astype(np.int64)[place]
    return groups
