"""Groups of trainings on the same images: mean scores and their differences, with intervals for images and trainings.

A score is the mean of a value per image, so the values of a group are a table of trainings and images. Both are random:
other seeds give other weights, other images other values. The variance of the mean is estimated from the two-way
analysis of variance of such tables, as for readers and cases in radiology (Obuchowski and Rockette, Communications in
Statistics B 24, 1995, 285-308; degrees of freedom: Hillis, Statistics in Medicine 26, 2007, 596-619), with the images
stratified by class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowers.metrics import classification
from flowers.metrics.classification import Labels, Probabilities
from flowers.metrics.paired import LEVEL, POWER

Values = NDArray[np.float64]
_MOST = 10**6  # trainings or images: beyond it none is named


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference of means with its variance, by source.

    `between` is the part of trainings, summed over the groups: of each the variance between them over their number;
    None if all groups have one training, and then `variance` is that of images alone. `images` is the variance between
    images, times their number, of what all trainings share; `rest` the part of the interaction, times that number.
    `one_between` and `one_rest` are these parts with one training in each group.
    """

    value: float
    variance: float
    freedom: float
    between: float | None
    images: float
    rest: float
    one_between: float
    one_rest: float
    n_images: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval of Student's t that misses the true value with probability `level`."""
        from scipy import stats

        margin = float(stats.t.ppf(1 - level / 2, self.freedom)) * math.sqrt(self.variance)
        return self.value - margin, self.value + margin

    @property
    def p(self) -> float:
        """The two-sided p of the hypothesis that the true value is 0."""
        from scipy import stats

        if self.variance == 0:
            return float(self.value == 0)
        return float(2 * stats.t.sf(abs(self.value) / math.sqrt(self.variance), self.freedom))

    def needed_trainings(self) -> int | None:
        """Trainings in each group that show this difference with probability POWER.

        None if no number of them does, or the variance between trainings is unknown.
        """
        if self.between is None:
            return None
        room = self._needed_variance() - self.images / self.n_images
        return _ratio(self.one_between + self.one_rest / self.n_images, room)

    def needed_images(self) -> int | None:
        """Images that show a difference of this size with probability POWER, with as many trainings; else None."""
        if self.between is None:
            return None
        return _ratio(self.images + self.rest, self._needed_variance() - self.between)

    def _needed_variance(self) -> float:
        from scipy import stats

        return float((self.value / (stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))) ** 2)


def _ratio(variance: float, room: float) -> int | None:
    """The number that brings a variance down to the room that is left for it."""
    return max(2, math.ceil(variance / room)) if 0 < variance < _MOST * room else None


def values(labels: Labels, trainings: Sequence[Probabilities]) -> dict[str, Values]:
    """The values of each image, (trainings, images), whose mean over images is a score of `classification.scores`.

    `trainings` holds probabilities (n, c). Macro F1 is no mean over images and has none.
    """
    n_classes = trainings[0].shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    weight = len(labels) / (np.count_nonzero(counts) * counts[labels])
    right = np.stack([each.argmax(axis=1) == labels for each in trainings]).astype(np.float64)
    found = {"accuracy": right, "mean_per_class_accuracy": right * weight}
    if n_classes > 5:
        places = [classification.right_class_place(labels, each) < 5 for each in trainings]
        found["top5_accuracy"] = np.stack(places).astype(np.float64)
    found["log_loss"] = np.stack([classification.losses(labels, each) for each in trainings]).astype(np.float64)
    return found


def mean(labels: Labels, group: Values) -> Estimate:
    """The mean of a group's values (trainings, images) over both."""
    return _estimate(labels, [group], group.mean(axis=0))


def difference(labels: Labels, one: Values, other: Values) -> Estimate:
    """The mean of the other group less that of one; values are (trainings, images) of the same images."""
    return _estimate(labels, [one, other], other.mean(axis=0) - one.mean(axis=0))


def _estimate(labels: Labels, groups: Sequence[Values], of_image: Values) -> Estimate:
    """The estimate for means or differences (images,) over the trainings of groups."""
    n_images, known = len(labels), [group for group in groups if len(group) > 1]
    images, images_freedom = _between_images(labels, of_image)
    if not known:
        return Estimate(float(of_image.mean()), images / n_images, images_freedom, None, images, 0, 0, 0, n_images)
    # A single training is taken to vary with the seed as those of the other group do.
    single = (len(groups) - len(known)) / len(known)
    spreads = [float(group.mean(axis=1).var(ddof=1)) for group in known]
    rests = [_interaction(group) for group in known]
    shares = [1 / len(group) + single for group in known]
    shared = sum(rest * share for rest, share in zip(rests, shares, strict=True))
    parts = [spread * share for spread, share in zip(spreads, shares, strict=True)]
    # Both sums of squares hold the interaction; a variance is not below that of either source alone.
    variance = max(images / n_images, sum(parts), images / n_images + sum(parts) - shared / n_images)
    weights = sum(part**2 / (len(group) - 1) for part, group in zip(parts, known, strict=True))
    weights += (images / n_images) ** 2 / images_freedom
    one_rest = (1 + single) * sum(rests)
    return Estimate(
        value=float(of_image.mean()),
        variance=variance,
        freedom=variance**2 / weights if weights else math.inf,
        between=max(0.0, sum(parts) - shared / n_images),
        images=max(0.0, images - shared),
        rest=shared,
        one_between=max(0.0, (1 + single) * sum(spreads) - one_rest / n_images),
        one_rest=one_rest,
        n_images=n_images,
    )


def _between_images(labels: Labels, of_image: Values) -> tuple[float, float]:
    """The variance of a value between the images of a class, averaged over images, and its degrees of freedom."""
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.bincount(places, of_image) / counts
    squares = np.bincount(places, (of_image - means[places]) ** 2)
    freedom = len(labels) - len(counts)
    if freedom == 0:  # one image per class
        return float(of_image.var(ddof=1)) if len(labels) > 1 else 0.0, max(1, len(labels) - 1)
    pooled = squares.sum() / freedom
    own = np.where(counts > 1, squares / np.maximum(counts - 1, 1), pooled)
    return float((own * counts).sum() / len(labels)), freedom


def _interaction(group: Values) -> float:
    """The mean square of what neither the training nor the image explains, of values (trainings, images)."""
    left = group - group.mean(axis=0) - group.mean(axis=1, keepdims=True) + group.mean()
    return float((left**2).sum() / max(1, (group.shape[0] - 1) * (group.shape[1] - 1)))
