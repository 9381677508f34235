"""Two classifiers on the same images: differences of their scores with intervals, and McNemar's test.

`one` and `other` are probabilities (n, c) of the same n images; differences are other minus one.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import bootstrap, classification
from flowers.metrics.classification import Labels, Probabilities

Shares = NDArray[np.floating]

SAMPLES = 10_000
LEVEL = 0.05  # a p below it is significant
POWER = 0.8  # probability with which `detectable` wants a difference to be significant


@dataclass(frozen=True)
class Difference:
    """A score of both, their difference, and its 95 % interval."""

    one: float
    other: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """other - one."""
        return self.other - self.one


@dataclass(frozen=True)
class McNemar:
    """How many images only one (`lost`) or only the other (`gained`) classifier has right, and the exact p."""

    lost: int
    gained: int
    p: float


def differences(
    labels: Labels, one: Probabilities, other: Probabilities, samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """The difference of every score of `classification.scores`; intervals are from the same resamples for both.

    Raises ValueError as `bootstrap.resampled` does, and where the two have different shapes.
    """
    if one.shape != other.shape:
        raise ValueError(f"probabilities {one.shape} and {other.shape} must be of the same images and classes")
    first, second = bootstrap.resampled(labels, [one, other], samples, seed)
    scores, others = classification.scores(labels, one), classification.scores(labels, other)
    return {
        name: Difference(scores[name], others[name], *bootstrap.percentile_interval(second[name] - first[name]))
        for name in scores
    }


def mcnemar(labels: Labels, one: Labels, other: Labels) -> McNemar:
    """The exact test of McNemar (1947, Psychometrika 12, 153-157) on predicted classes `one` and `other`, (n,) each.

    p is two-sided: the binomial probability of at least so uneven a count among the images that exactly one of the two
    has right; 1.0 where there are none.
    """
    from scipy import stats

    lost, gained = int(((one == labels) & (other != labels)).sum()), int(((one != labels) & (other == labels)).sum())
    p = float(stats.binomtest(gained, lost + gained).pvalue) if lost + gained else 1.0
    return McNemar(lost, gained, p)


def can_show(discordant: int, level: float = LEVEL) -> bool:
    """Whether `mcnemar` can be significant with so many discordant images, even if all favour one classifier."""
    return 2 * 0.5**discordant < level


def accuracy_interval(test: McNemar, images: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on so many images, other minus one.

    That of Agresti and Min (2005, Statistics in Medicine 24, 729-740): half an image is added to each of the four
    counts, so that it has a width even where both have the same images right.
    """
    total, discordant = images + 2, test.lost + test.gained + 1
    difference = (test.gained - test.lost) / total
    margin = NormalDist().inv_cdf(0.975) * math.sqrt((discordant / total - difference**2) / total)
    return difference - margin, difference + margin


def detectable(images: int, discordant: float, level: float = LEVEL) -> float:
    """The smallest difference of two accuracies that McNemar's test shows on so many images with probability POWER.

    `discordant` is the share of images that exactly one of the two has right; it is at least the difference itself.
    From Connor (1987, Biometrics 43, 207-211): images = (z(1 - level / 2) sqrt(discordant) + z(POWER) sqrt(discordant -
    difference^2))^2 / difference^2. Returns 1.0 if no difference can be shown.
    """
    significant, detected = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(POWER)
    for thousandths in range(1, 1000):
        difference = thousandths / 1000
        share = max(discordant, difference)
        needed = (significant * math.sqrt(share) + detected * math.sqrt(share - difference**2)) / difference
        if needed**2 <= images:
            return difference
    return 1.0


def independent(accuracy: float) -> float:
    """The share of images that exactly one of two classifiers of this accuracy has right if their errors are unrelated.

    Errors of classifiers that were trained on the same images coincide more often.
    """
    return 2 * accuracy * (1 - accuracy)


def per_class(labels: Labels, one: Shares, other: Shares, classes: list[str]) -> pd.DataFrame:
    """Classes whose recall differs, best gain first: class, photos (count), one and other (right), change of recall.

    `one` and `other`, (n,), say whether each image is right, or the share of several trainings that have it right.
    """
    images, first, second = (np.bincount(labels, weights, len(classes)) for weights in (None, one, other))
    found = pd.DataFrame({"class": classes, "photos": images.astype(int), "one": first, "other": second})
    found["change"] = (second - first) / np.maximum(images, 1)
    changed = found[~np.isclose(first, second)]
    return changed.sort_values(["change", "class"], ascending=[False, True], ignore_index=True)
