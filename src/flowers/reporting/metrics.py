"""Scores of a classifier's probabilities, their bootstrap intervals, the per-class table and the confusion matrix.

Everything here takes class numbers (0 ... c - 1) and arrays, and touches no file. Classes that no photo belongs to are
left out of every mean over classes. Ties always go to the lower class number: in arg-max, and in the top five.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Probabilities = NDArray[np.floating]

SMALLEST = float(np.finfo(np.float32).eps)  # what log-loss takes a probability of 0 for
CHUNK = 2_000_000  # numbers drawn at a time by the bootstrap: bounds its memory to some tens of MB


def scores(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Score probabilities (n, c) against labels (n,): what each figure is, from the best to the worst value.

    - accuracy: share of photos whose most probable class is the right one, 1 ... 0.
    - mean_per_class_accuracy: mean recall over the classes that have photos, 1 ... 0.
    - top5_accuracy: share of photos whose right class is among the five most probable, 1 ... 0; only for c > 5.
    - log_loss: mean of -ln p(right class) in nats, with p clipped to [1.2e-7, 1], 0 ... 15.9.
    - macro_f1: mean of 2 tp / (photos + predictions) over the classes that have photos, 1 ... 0.

    Raises ValueError where shapes differ, nothing is given, a label is out of range or a probability is not a number.
    """
    _check(labels, probabilities)
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    matrix = _count(labels, predicted, n_classes)
    result = {
        "accuracy": float((predicted == labels).mean()),
        "mean_per_class_accuracy": mean_per_class_accuracy(labels, predicted, n_classes),
    }
    if n_classes > 5:
        result["top5_accuracy"] = float((_right_class_place(labels, probabilities) < 5).mean())
    result["log_loss"] = float(_losses(labels, probabilities).mean())
    result["macro_f1"] = float(_f1(matrix)[matrix.any(axis=1)].mean())
    return result


def mean_per_class_accuracy(labels: Labels, predicted: Labels, n_classes: int) -> float:
    """Mean over the classes that have photos of the share of them that is recognised; labels, predicted: (n,) int."""
    matrix = _count(labels, predicted, n_classes)
    photos = matrix.sum(axis=1)
    present = photos > 0
    return float((matrix.diagonal()[present] / photos[present]).mean())


def intervals(
    labels: Labels, probabilities: Probabilities, samples: int, seed: int, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of `scores`, each (low, high), from a stratified percentile bootstrap of `samples` draws.

    Photos are drawn with replacement within each class (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13; strata: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.2). Whatever only
    counts photos needs no photo drawn: the counts of a class's outcomes are multinomial, exactly. Log-losses are drawn
    photo by photo. The same seed gives the same intervals.

    The interval is of the score on new photos, as many in each class, for this one trained model; of another training
    it says nothing. benchmarks/interval_coverage.py measures it: with 1,000 photos in 5 or 20 classes, 94 ... 95 % of
    the 95 % intervals hold the true accuracy. It falls short where classes are tiny and nearly always right, since the
    photos of a class that are all right have no spread to resample: 91 % for 10 photos in each of 102 classes at 0.95.

    Raises ValueError as `scores` does, and where samples or confidence is out of range.
    """
    _check(labels, probabilities)
    if samples < 1 or not 0 < confidence < 1:
        raise ValueError(f"samples must be at least 1 and confidence between 0 and 1, not {samples} and {confidence}")
    rng = np.random.default_rng(seed)
    drawn = _draw_counts(labels, probabilities, samples, rng)
    drawn["log_loss"] = _draw_mean_losses(labels, _losses(labels, probabilities), samples, rng)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    limits = {name: np.quantile(values, tails) for name, values in drawn.items()}
    return {name: (float(limits[name][0]), float(limits[name][1])) for name in scores(labels, probabilities)}


def per_class(labels: Labels, predicted: Labels, classes: Sequence[str]) -> pd.DataFrame:
    """A row per class, in their order, from labels and predicted, (n,) int.

    Columns: class; photos; correct; recall (NaN without photos); precision (NaN where never predicted); f1 (NaN without
    photos); confused_with, the class its photos are most often mistaken for ("" if none), and confused, how often.
    """
    matrix = _count(labels, predicted, len(classes))
    photos, guesses, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    mistakes = matrix - np.diag(correct)
    worst = mistakes.argmax(axis=1)
    confused = mistakes.max(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised
        columns = {
            "class": list(classes),
            "photos": photos,
            "correct": correct,
            "recall": correct / photos,
            "precision": correct / guesses,
            "f1": np.where(photos > 0, _f1(matrix), np.nan),
            "confused_with": [classes[k] if times else "" for k, times in zip(worst, confused, strict=True)],
            "confused": confused,
        }
    return pd.DataFrame(columns)


def confusion(labels: Labels, predicted: Labels, classes: Sequence[str]) -> pd.DataFrame:
    """Photos (int) by true class, down (index `label`), and by predicted class, across (columns `predicted`)."""
    matrix = _count(labels, predicted, len(classes))
    return pd.DataFrame(matrix, index=pd.Index(classes, name="label"), columns=pd.Index(classes, name="predicted"))


def _draw_counts(
    labels: Labels, probabilities: Probabilities, samples: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Bootstrap draws (samples,) of the scores that count photos.

    What counts of a photo is its outcome: the class predicted, and whether the right one is among the first five. The
    counts of a class's outcomes in a resample follow the multinomial distribution of their shares in the class.
    """
    n_classes = probabilities.shape[1]
    outcomes = 2 * probabilities.argmax(axis=1) + (_right_class_place(labels, probabilities) < 5)
    names = ("accuracy", "mean_per_class_accuracy", "top5_accuracy", "macro_f1")
    drawn = {name: np.empty(samples) for name in names}
    present, photos = np.unique(labels, return_counts=True)
    for part in _parts(samples, 4 * n_classes):
        size = part.stop - part.start
        correct = np.zeros((n_classes, size))
        guesses = np.zeros((n_classes, size))
        top5 = np.zeros(size)
        for label, count in zip(present, photos, strict=True):
            kinds, times = np.unique(outcomes[labels == label], return_counts=True)
            for kind, draws in zip(kinds, rng.multinomial(count, times / count, size=size).T, strict=True):
                guesses[kind // 2] += draws
                top5 += draws * (kind % 2)
                if kind // 2 == label:
                    correct[label] += draws
        correct, guesses = correct[present], guesses[present]
        column = photos[:, None]
        drawn["accuracy"][part] = correct.sum(axis=0) / len(labels)
        drawn["mean_per_class_accuracy"][part] = (correct / column).mean(axis=0)
        drawn["top5_accuracy"][part] = top5 / len(labels)
        drawn["macro_f1"][part] = (2 * correct / (column + guesses)).mean(axis=0)
    return drawn


def _draw_mean_losses(
    labels: Labels, losses: NDArray[np.float64], samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Bootstrap draws (samples,) of the mean loss: within each class, as many photos with replacement as it has."""
    total = np.zeros(samples)
    for label in np.unique(labels):
        own = losses[labels == label]
        kind = np.uint16 if len(own) <= 2**16 else np.int64  # small numbers are drawn faster
        for part in _parts(samples, len(own)):
            chosen = rng.integers(len(own), size=(part.stop - part.start, len(own)), dtype=kind)
            total[part] += own[chosen].sum(axis=1)
    return total / len(labels)


def _parts(samples: int, width: int) -> list[slice]:
    """Slices of `samples` rows of `width` numbers, each at most CHUNK numbers where a row is not longer than that."""
    step = max(1, CHUNK // width)
    return [slice(start, min(start + step, samples)) for start in range(0, samples, step)]


def _right_class_place(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """How many classes stand before the right one, (n,): more probable, or as probable with a lower number."""
    right = probabilities[np.arange(len(labels)), labels][:, None]
    tied_before = (probabilities == right) & (np.arange(probabilities.shape[1]) < labels[:, None])
    place: NDArray[np.int64] = ((probabilities > right) | tied_before).sum(axis=1)
    return place


def _losses(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """-ln p(right class) of each photo, (n,)."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(right, SMALLEST, 1.0))


def _count(labels: Labels, predicted: Labels, n_classes: int) -> NDArray[np.int64]:
    """The confusion matrix (c, c): true class down, predicted class across."""
    if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
        raise ValueError(f"labels {labels.shape} and predictions {predicted.shape} must both be (n,), n > 0")
    if not 0 <= min(labels.min(), predicted.min()) <= max(labels.max(), predicted.max()) < n_classes:
        raise ValueError(f"labels and predictions must be class numbers from 0 to {n_classes - 1}")
    flat = labels.astype(np.int64) * n_classes + predicted
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def _f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class, (c,): 2 tp / (photos + predictions); 0 where there are neither."""
    f1: NDArray[np.float64] = 2 * matrix.diagonal() / np.maximum(matrix.sum(axis=0) + matrix.sum(axis=1), 1)
    return f1


def _check(labels: Labels, probabilities: Probabilities) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must be (n,) and (n, c), n > 0"
        )
    if not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must be class numbers from 0 to {probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a finite number; the training may have diverged")
