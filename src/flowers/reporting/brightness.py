"""The brightness of images, and the pixels of those that a report shows."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flowers.common import ahead
from flowers.training import activation_cache

_SMALL = 32  # pixels
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601


def measure(
    items: Sequence[activation_cache.Item], shown: Collection[int]
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.uint8]]]:
    """The mean luma of every item, (n,), 0 (black) ... 1 (white); and the pixels of the rows in `shown`.

    Only pixels that are shown are kept. Raises UserError if an image cannot be read or has changed.
    """

    def of_row(row: int) -> tuple[float, NDArray[np.uint8] | None]:
        item = items[row]
        if row not in shown:  # small images are decoded in a fifth of the time
            item = replace(item, view=replace(item.view, size=_SMALL))
        pixels = activation_cache.pixels(item)
        colour = pixels.reshape(-1, 3).sum(axis=0, dtype=np.int64) / (pixels.size / 3 * 255)
        return float(colour @ LUMA), pixels if row in shown else None

    found = list(ahead.computed(of_row, range(len(items)), 64))
    kept = {row: pixels for row, (_, pixels) in enumerate(found) if pixels is not None}
    return np.array([luma for luma, _ in found]), kept
