"""Calibration: temperature scaling, the low-confidence threshold, reliability bins, expected calibration error.

Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import classification
from flowers.metrics.classification import Labels, Probabilities

BINS = 15
BOUNDS = (0.05, 20.0)  # of the temperature
SPREAD = 0.5  # prior standard deviation of ln(temperature): a few right images must not make a model certain
TARGET = 0.95  # share of the predictions above the threshold that should be right


def temperature(labels: Labels, probabilities: Probabilities) -> float:
    """The temperature for `scaled` that minimises log-loss on these images; above 1 the model was overconfident.

    `labels` (n,) and `probabilities` (n, c) are of images that were not trained on. A normal prior of ln(temperature)
    around 0 keeps it near 1 if there are few images. Rounded to 4 digits, within `BOUNDS`. Raises ValueError as
    `classification.scores` does.
    """
    from scipy import optimize

    classification.check(labels, probabilities)

    def loss(log_temperature: float) -> float:
        prior = (log_temperature / SPREAD) ** 2 / (2 * len(labels))
        losses = classification.losses(labels, scaled(probabilities, float(np.exp(log_temperature))))
        return float(losses.mean()) + prior

    found = optimize.minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


def scaled(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, c) of the logits divided by the temperature: softmax(ln p / temperature)."""
    values = probabilities.astype(np.float64)  # in place from here on: there may be 100,000 x 1,000
    np.log(values.clip(classification.SMALLEST * 1e-9, 1.0, out=values), out=values)
    values /= temperature
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


def threshold(labels: Labels, probabilities: Probabilities, target: float = TARGET) -> float:
    """The probability, 0 ... 1, below which predictions are of low confidence.

    It is the lowest probability of a prediction on these images (n,), which were not trained on, such that a share
    `target` of the predictions with at least that probability is right (selective classification: Geifman and El-Yaniv,
    arXiv 1705.08500, without their bound). To allow for rounding it lies slightly below that probability, but above the
    next lower one. If no probability qualifies it is 1, and every prediction is of low confidence.
    """
    classification.check(labels, probabilities)
    confidence, right = _confidence(labels, probabilities)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    ends = np.append(np.diff(confidence) != 0, True)  # equal probabilities are on the same side
    good = np.flatnonzero((share >= target) & ends)
    if not len(good):
        return 1.0
    lowest, below = np.append(confidence, 0.0)[good[-1] : good[-1] + 2]
    return float(max((lowest + below) / 2, lowest - 1e-4))


def reliability(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> pd.DataFrame:
    """A row per non-empty bin of the predicted class's probability; bins have equal width from 0 to 1.

    Columns: low, high, photos (number of images), confidence (mean probability of the predicted class), accuracy.
    """
    classification.check(labels, probabilities)
    confidence, right = _confidence(labels, probabilities)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": right})
    found = table.groupby("bin").agg(
        photos=("accuracy", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    edges = pd.DataFrame({"low": found.index / bins, "high": (found.index + 1) / bins}, index=found.index)
    return edges.join(found).reset_index(drop=True)


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> float:
    """Mean over the images of |confidence - accuracy| of their bins, 0 (calibrated) ... 1."""
    table = reliability(labels, probabilities, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["photos"]).sum() / table["photos"].sum())


def _confidence(labels: Labels, probabilities: Probabilities) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of the predicted class, and whether it is the right one, (n,) each."""
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
