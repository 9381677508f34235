"""Scores of a classifier's probabilities, the per-class table, the confusion matrix; add a metric to `scores`.

All functions take arrays of class numbers (0 ... c - 1) and of probabilities. Means over classes leave out classes
without images. Ties go to the lower class number, in arg-max and in the top five.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Probabilities = NDArray[np.floating]

SMALLEST = float(np.finfo(np.float32).eps)  # log-loss raises smaller probabilities to this


def scores(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Scores of probabilities (n, c) against labels (n,), with their range from best to worst:

    - accuracy: share of images whose most probable class is the right one, 1 ... 0.
    - mean_per_class_accuracy: mean recall over the classes that have images, 1 ... 0.
    - top5_accuracy: share of images whose right class is among the five most probable, 1 ... 0; only for c > 5.
    - log_loss: mean of -ln p(right class) in nats, with p clipped to [1.2e-7, 1], 0 ... 15.9.
    - macro_f1: mean of 2 tp / (images + predictions) over the classes that have images, 1 ... 0.

    Raises ValueError if shapes differ, n is 0, a label is out of range or a probability is not a number.
    """
    check(labels, probabilities)
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    matrix = _count(labels, predicted, n_classes)
    result = {
        "accuracy": float((predicted == labels).mean()),
        "mean_per_class_accuracy": mean_per_class_accuracy(labels, predicted, n_classes),
    }
    if n_classes > 5:
        result["top5_accuracy"] = float((right_class_place(labels, probabilities) < 5).mean())
    result["log_loss"] = float(losses(labels, probabilities).mean())
    result["macro_f1"] = float(_f1(matrix)[matrix.any(axis=1)].mean())
    return result


def mean_per_class_accuracy(labels: Labels, predicted: Labels, n_classes: int) -> float:
    """Mean recall over the classes that have images; labels and predicted are (n,) int."""
    matrix = _count(labels, predicted, n_classes)
    images = matrix.sum(axis=1)
    present = images > 0
    return float((matrix.diagonal()[present] / images[present]).mean())


def per_class(labels: Labels, predicted: Labels, classes: Sequence[str]) -> pd.DataFrame:
    """A row per class, in the order of `classes`, from labels and predicted, (n,) int.

    Columns: class; photos (number of images); correct; recall and f1 (NaN without images); precision (NaN if never
    predicted); confused_with, the most frequent wrong prediction ("" if none), and confused, its count.
    """
    matrix = _count(labels, predicted, len(classes))
    images, predictions, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    wrong = matrix - np.diag(correct)
    confused = wrong.max(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        columns = {
            "class": list(classes),
            "photos": images,
            "correct": correct,
            "recall": correct / images,
            "precision": correct / predictions,
            "f1": np.where(images > 0, _f1(matrix), np.nan),
            "confused_with": [
                classes[k] if times else "" for k, times in zip(wrong.argmax(axis=1), confused, strict=True)
            ],
            "confused": confused,
        }
    return pd.DataFrame(columns)


def confusion(labels: Labels, predicted: Labels, classes: Sequence[str]) -> pd.DataFrame:
    """Number of images by true class (index `label`) and predicted class (columns `predicted`)."""
    matrix = _count(labels, predicted, len(classes))
    return pd.DataFrame(matrix, index=pd.Index(classes, name="label"), columns=pd.Index(classes, name="predicted"))


def right_class_place(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Rank of the right class, (n,) from 0: how many classes are more probable, or tied with a lower number."""
    right = probabilities[np.arange(len(labels)), labels][:, None]
    tied_before = (probabilities == right) & (np.arange(probabilities.shape[1]) < labels[:, None])
    place: NDArray[np.int64] = ((probabilities > right) | tied_before).sum(axis=1)
    return place


def losses(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """-ln p(right class) of each image, (n,)."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(right, SMALLEST, 1.0))


def wilson_interval(correct: Labels, n: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high ends of the 95 % Wilson intervals of the shares correct / n; both are (k,) int with n > 0."""
    from scipy import stats

    tests = (stats.binomtest(int(hits), int(trials)) for hits, trials in zip(correct, n, strict=True))
    ends = np.array([test.proportion_ci(method="wilson") for test in tests], np.float64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def _count(labels: Labels, predicted: Labels, n_classes: int) -> NDArray[np.int64]:
    """The confusion matrix (c, c): a row per true class, a column per predicted class."""
    if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
        raise ValueError(f"labels {labels.shape} and predictions {predicted.shape} must both be (n,), n > 0")
    if not 0 <= min(labels.min(), predicted.min()) <= max(labels.max(), predicted.max()) < n_classes:
        raise ValueError(f"labels and predictions must be class numbers from 0 to {n_classes - 1}")
    flat = labels.astype(np.int64) * n_classes + predicted
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def _f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class, (c,): 2 tp / (images + predictions); 0 if there are neither."""
    f1: NDArray[np.float64] = 2 * matrix.diagonal() / np.maximum(matrix.sum(axis=0) + matrix.sum(axis=1), 1)
    return f1


def check(labels: Labels, probabilities: Probabilities) -> None:
    """Raise ValueError unless labels (n,) and probabilities (n, c) match and the probabilities are finite."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must be (n,) and (n, c), n > 0"
        )
    if not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must be class numbers from 0 to {probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a finite number; the training may have diverged")


def softmax(values: np.ndarray) -> np.ndarray:
    """Softmax of logits (n, classes), computed in float64, returned as float32."""
    shifted = values.astype(np.float64)  # in place from here on: there may be 100,000 x 1,000
    shifted -= values.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted.astype(np.float32)
