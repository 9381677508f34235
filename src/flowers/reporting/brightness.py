"""What the network sees of photos, for a report: how bright each is, and the pixels of those that are shown."""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from flowers.training import activation_cache

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601


def look(
    items: Sequence[activation_cache.Item], shown: Collection[int]
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.uint8]]]:
    """The mean luma of every item, (n,), 0 (black) ... 1 (white); and the pixels of the rows in `shown`.

    Each photo is decoded once, and only pixels that are shown are kept. Raises UserError where a photo cannot be read
    or is another one by now.
    """

    def see(row: int) -> tuple[float, NDArray[np.uint8] | None]:
        pixels = activation_cache.pixels(items[row])
        colour = pixels.reshape(-1, 3).sum(axis=0, dtype=np.int64) / (pixels.size / 3 * 255)
        return float(colour @ LUMA), pixels if row in shown else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(see, range(len(items))))
    kept = {row: pixels for row, (_, pixels) in enumerate(found) if pixels is not None}
    return np.array([luma for luma, _ in found]), kept
