"""Bootstrap intervals of a classifier's scores, and the resamples they come from. Touches no file."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowers.metrics import classification
from flowers.metrics.classification import Labels, Probabilities

CHUNK = 2_000_000  # numbers drawn at a time: bounds the memory to some tens of MB


def intervals(
    labels: Labels, probabilities: Probabilities, samples: int, seed: int, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of `metrics.scores`, each (low, high): percentiles of what `resampled` draws.

    The interval is of the score on new photos, as many in each class, for this one trained model; of another training
    it says nothing. benchmarks/interval_coverage.py measures it: with 1,000 photos in 5 or 20 classes, and with 6,120
    in 102, 94 ... 97 % of the 95 % intervals hold the truth, of every score and of differences of two models. With 10
    photos in each of 102 classes it is 93 ... 95 %, and with 45 photos in all 92 ... 93 % of the scores and 86 % of the
    differences: so few photos differ that a resample often holds none of them.

    Raises ValueError as `resampled` does, and where confidence is out of range.
    """
    (drawn,) = resampled(labels, [probabilities], samples, seed)
    return {name: percentile_interval(values, confidence) for name, values in drawn.items()}


def percentile_interval(drawn: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The middle part of what was drawn, (low, high). Raises ValueError where confidence is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    low, high = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def resampled(
    labels: Labels, models: Sequence[Probabilities], samples: int, seed: int
) -> list[dict[str, NDArray[np.float64]]]:
    """`metrics.scores` of several models, probabilities (n, c) each, on resamples of the photos: (samples,) by name.

    A stratified bootstrap: photos are drawn with replacement within each class (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993, chapter 13; strata: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.2), one less than there are, and scaled up: of as many as there are, a mean would vary too little, by
    (n - 1) / n (McCarthy and Snowden, The bootstrap and finite population sampling, 1985). A resample is of the same
    photos for every model, so that differences between models are paired. The
    same seed gives the same draws.

    Raises ValueError as `metrics.scores` does, and where samples is less than 1.
    """
    for probabilities in models:
        classification.check(labels, probabilities)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    n_classes, rng = models[0].shape[1], np.random.default_rng(seed)
    present = np.unique(labels)
    strata = [np.flatnonzero(labels == label) for label in present]
    photos = np.array([len(own) for own in strata])[:, None]
    outcomes = [_Outcomes(labels, probabilities, strata) for probabilities in models]
    drawn = [
        {name: np.empty(samples) for name in classification.scores(labels, probabilities)} for probabilities in models
    ]
    # The products are small: a second thread would only wait, and may change the last bits.
    with threadpool_limits(1, user_api="blas"):
        for part in _parts(samples, max(photos.max(), 2 * n_classes * len(models))):
            size = part.stop - part.start
            sums = [_Sums(n_classes, size) for _ in models]
            for stratum, own in enumerate(strata):
                few = max(len(own) - 1, 1)
                times = _times_drawn(len(own), few, size, rng)
                for outcome, total in zip(outcomes, sums, strict=True):
                    scaled = times @ outcome.columns[stratum] * len(own) / few
                    total.add(present[stratum], outcome.kinds[stratum], scaled)
            for found, total in zip(drawn, sums, strict=True):
                for name, values in total.scores(present, photos).items():
                    if name in found:
                        found[name][part] = values
    return drawn


class _Outcomes:
    """What counts of each photo, class by class: `kinds`, the classes predicted, and `columns` to be summed.

    Columns (photos, kinds + 2): whether each kind was predicted; whether the right class is among the first five; and
    the loss.
    """

    def __init__(self, labels: Labels, probabilities: Probabilities, strata: Sequence[NDArray[np.int64]]) -> None:
        predicted = probabilities.argmax(axis=1)
        top5 = classification.right_class_place(labels, probabilities) < 5
        losses = classification.losses(labels, probabilities)
        self.kinds, self.columns = [], []
        for own in strata:
            kinds, places = np.unique(predicted[own], return_inverse=True)
            self.kinds.append(kinds)
            self.columns.append(np.column_stack([np.eye(len(kinds))[places], top5[own], losses[own]]))


class _Sums:
    """Outcomes summed over each of `size` resamples."""

    def __init__(self, n_classes: int, size: int) -> None:
        self._correct, self._guesses = np.zeros((n_classes, size)), np.zeros((n_classes, size))
        self._top5, self._loss = np.zeros(size), np.zeros(size)

    def add(self, label: int, kinds: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """Add a class's sums, (size, kinds + 2)."""
        self._guesses[kinds] += sums[:, : len(kinds)].T
        self._correct[label] = sums[:, : len(kinds)][:, kinds == label].sum(axis=1)
        self._top5 += sums[:, -2]
        self._loss += sums[:, -1]

    def scores(self, present: Labels, photos: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Every score of each resample, from the classes that have photos and how many (classes, 1)."""
        correct, guesses, total = self._correct[present], self._guesses[present], photos.sum()
        return {
            "accuracy": correct.sum(axis=0) / total,
            "mean_per_class_accuracy": (correct / photos).mean(axis=0),
            "top5_accuracy": self._top5 / total,
            "log_loss": self._loss / total,
            "macro_f1": (2 * correct / (photos + guesses)).mean(axis=0),
        }


def _times_drawn(photos: int, drawn: int, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each photo is among the `drawn` of each resample, (samples, photos)."""
    kind = np.uint8 if photos <= 2**8 else np.uint16 if photos <= 2**16 else np.int64  # small numbers are drawn faster
    chosen = rng.integers(photos, size=(samples, drawn), dtype=kind)
    places = chosen + photos * np.arange(samples)[:, None]
    return np.bincount(places.ravel(), minlength=samples * photos).reshape(samples, photos).astype(np.float64)


def _parts(samples: int, width: int) -> list[slice]:
    """Slices of `samples` rows of `width` numbers, each at most CHUNK numbers where a row is not longer than that."""
    step = max(1, CHUNK // width)
    return [slice(start, min(start + step, samples)) for start in range(0, samples, step)]
