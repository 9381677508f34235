"""Scores of a classifier's probabilities, the per-class table and the confusion matrix.

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


def scores(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Score probabilities (n, c) against labels (n,): what each figure is, from the best to the worst value.

    - accuracy: share of photos whose most probable class is the right one, 1 ... 0.
    - mean_per_class_accuracy: mean recall over the classes that have photos, 1 ... 0.
    - top5_accuracy: share of photos whose right class is among the five most probable, 1 ... 0; only for c > 5.
    - log_loss: mean of -ln p(right class) in nats, with p clipped to [1.2e-7, 1], 0 ... 15.9.
    - macro_f1: mean of 2 tp / (photos + predictions) over the classes that have photos, 1 ... 0.

    Raises ValueError where shapes differ, nothing is given, a label is out of range or a probability is not a number.
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
    """Mean over the classes that have photos of the share of them that is recognised; labels, predicted: (n,) int."""
    matrix = _count(labels, predicted, n_classes)
    photos = matrix.sum(axis=1)
    present = photos > 0
    return float((matrix.diagonal()[present] / photos[present]).mean())


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


def right_class_place(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """How many classes stand before the right one, (n,): more probable, or as probable with a lower number."""
    right = probabilities[np.arange(len(labels)), labels][:, None]
    tied_before = (probabilities == right) & (np.arange(probabilities.shape[1]) < labels[:, None])
    place: NDArray[np.int64] = ((probabilities > right) | tied_before).sum(axis=1)
    return place


def losses(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
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


def check(labels: Labels, probabilities: Probabilities) -> None:
    """Raise ValueError unless these are labels (n,) and finite probabilities (n, c) of the same photos."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must be (n,) and (n, c), n > 0"
        )
    if not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must be class numbers from 0 to {probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a finite number; the training may have diverged")


def softmax(values: np.ndarray) -> np.ndarray:
    """Probabilities of logits, (n, classes) float32, computed in float64."""
    shifted: np.ndarray = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
