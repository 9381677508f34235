"""Stratified bootstrap: confidence intervals of a classifier's scores, and the resampled scores themselves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowers.metrics import classification
from flowers.metrics.classification import Labels, Probabilities

CHUNK = 2_000_000  # numbers drawn at a time; bounds memory to some tens of MB


def intervals(
    labels: Labels, probabilities: Probabilities, samples: int, seed: int, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of `classification.scores`, (low, high) by name, from the scores that `resampled` returns.

    An interval is for the score of this one trained model on new images, as many in each class; it does not include
    the variation between trainings. Coverage of 95 % intervals, measured by benchmarks/interval_coverage.py for all
    scores and for differences of two models: 94 ... 97 % with 1,000 images in 5 or 20 classes and with 6,120 in 102;
    93 ... 95 % with 10 images in each of 102 classes; with 45 images in all, 92 ... 93 % for scores and 86 % for
    differences, because a resample often holds none of the few images on which the models differ.

    Raises ValueError as `resampled` does, and if confidence is out of range.
    """
    (drawn,) = resampled(labels, [probabilities], samples, seed)
    return {name: percentile_interval(values, confidence) for name, values in drawn.items()}


def percentile_interval(drawn: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The central interval (low, high) of resampled scores. Raises ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    low, high = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def resampled(
    labels: Labels, models: Sequence[Probabilities], samples: int, seed: int
) -> list[dict[str, NDArray[np.float64]]]:
    """`classification.scores` of several models on resamples of the images: arrays (samples,) by name, per model.

    `models` holds probabilities (n, c). Images are drawn with replacement within each class (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13; strata: Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.2). Of a class with n images n - 1 are drawn and scaled up, because drawing n makes the
    variance of a mean too small by the factor (n - 1) / n (McCarthy and Snowden, The bootstrap and finite population
    sampling, 1985). All models are scored on the same resamples, so differences between them are paired. The same seed
    gives the same draws.

    Raises ValueError as `classification.scores` does, and if samples is less than 1.
    """
    for probabilities in models:
        classification.check(labels, probabilities)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    n_classes, rng = models[0].shape[1], np.random.default_rng(seed)
    present = np.unique(labels)
    strata = [np.flatnonzero(labels == label) for label in present]
    images = np.array([len(own) for own in strata])[:, None]
    outcomes = [_Outcomes(labels, probabilities, strata) for probabilities in models]
    drawn = [
        {name: np.empty(samples) for name in classification.scores(labels, probabilities)} for probabilities in models
    ]
    # The products are small: more threads are no faster, and may change the last bits.
    with threadpool_limits(1, user_api="blas"):
        for part in _parts(samples, max(images.max(), 2 * n_classes * len(models))):
            size = part.stop - part.start
            sums = [_Sums(n_classes, size) for _ in models]
            for stratum, own in enumerate(strata):
                few = max(len(own) - 1, 1)
                times = _times_drawn(len(own), few, size, rng)
                for outcome, total in zip(outcomes, sums, strict=True):
                    scaled = times @ outcome.columns[stratum] * len(own) / few
                    total.add(present[stratum], outcome.kinds[stratum], scaled)
            for found, total in zip(drawn, sums, strict=True):
                values = total.scores(present, images)
                for name, of_samples in found.items():
                    of_samples[part] = values[name]
    return drawn


class _Outcomes:
    """The outcome of each image, by class: `kinds`, the distinct classes predicted, and `columns` to be summed.

    Columns (images, kinds + 2): whether each kind was predicted; whether the right class is in the top five; the loss.
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
        self._correct, self._predictions = np.zeros((n_classes, size)), np.zeros((n_classes, size))
        self._top5, self._loss = np.zeros(size), np.zeros(size)

    def add(self, label: int, kinds: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """Add a class's sums, (size, kinds + 2)."""
        self._predictions[kinds] += sums[:, : len(kinds)].T
        self._correct[label] = sums[:, : len(kinds)][:, kinds == label].sum(axis=1)
        self._top5 += sums[:, -2]
        self._loss += sums[:, -1]

    def scores(self, present: Labels, images: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Every score of each resample; `present` are the classes with images, `images` their counts (classes, 1)."""
        correct, predictions, total = self._correct[present], self._predictions[present], images.sum()
        return {
            "accuracy": correct.sum(axis=0) / total,
            "mean_per_class_accuracy": (correct / images).mean(axis=0),
            "top5_accuracy": self._top5 / total,
            "log_loss": self._loss / total,
            "macro_f1": (2 * correct / (images + predictions)).mean(axis=0),
        }


def _times_drawn(images: int, drawn: int, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each image is among the `drawn` ones of each resample, (samples, images)."""
    kind = np.uint8 if images <= 2**8 else np.uint16 if images <= 2**16 else np.int64  # small integers are drawn faster
    chosen = rng.integers(images, size=(samples, drawn), dtype=kind)
    places = chosen + images * np.arange(samples)[:, None]
    return np.bincount(places.ravel(), minlength=samples * images).reshape(samples, images).astype(np.float64)


def _parts(samples: int, width: int) -> list[slice]:
    """Slices of `samples` rows of `width` numbers, of at most CHUNK numbers each but at least one row."""
    step = max(1, CHUNK // width)
    return [slice(start, min(start + step, samples)) for start in range(0, samples, step)]
