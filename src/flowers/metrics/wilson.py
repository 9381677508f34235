"""The interval of a share that was counted. Touches no file."""

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # of 95 %


def interval(share: NDArray[np.float64], n: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of the 95 % score interval of a share observed in n trials, n > 0.

    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference", J. Am. Stat. Assoc. 22,
    209-212. It stays within 0 ... 1, and is right for few trials and for shares near the ends, too.
    """
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return middle - half, middle + half
