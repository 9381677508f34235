"""Accuracy by slice: photos that are alike in one number, in groups of about the same size. Touches no file."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import wilson

GROUPS = 3


def accuracy(values: NDArray[Any], right: NDArray[np.bool_]) -> pd.DataFrame:
    """A row per group of photos, from the lowest to the highest values, of values and right, (n,) each.

    Columns: low and high, the values that the group spans; photos; accuracy; and its 95 % interval, accuracy_low and
    accuracy_high. Equal values are never parted: up to `GROUPS` different ones are groups of their own.
    """
    table = pd.DataFrame({"group": _groups(values), "value": values, "right": right})
    found = table.groupby("group").agg(
        low=("value", "min"), high=("value", "max"), photos=("right", "size"), accuracy=("right", "mean")
    )
    shares, photos = found["accuracy"].to_numpy(np.float64), found["photos"].to_numpy(np.float64)
    low, high = wilson.interval(shares, photos)
    return found.assign(accuracy_low=low, accuracy_high=high).reset_index(drop=True)


def _groups(values: NDArray[Any]) -> NDArray[np.int64]:
    """The group of each photo, (n,): its value's place in the order of the photos says which."""
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) <= GROUPS:
        return place
    middle = (counts.cumsum() - counts / 2) / len(values)
    groups: NDArray[np.int64] = (middle * GROUPS).astype(np.int64)[place]
    return groups
