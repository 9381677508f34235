"""Whether probabilities mean what they say: the reliability of predictions, its error, and a temperature that mends it.

Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599). Touches no file.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import classification
from flowers.metrics.classification import Labels, Probabilities

BINS = 15
BOUNDS = (0.05, 20.0)  # of the temperature: beyond them the photos say nothing about it
SPREAD = 0.5  # of ln(temperature) before any photo is seen: a few photos, all right, must not make a model certain
SURE = 0.95  # the share of sure answers that should be right


def temperature(labels: Labels, probabilities: Probabilities) -> float:
    """The most probable temperature for `scaled` on these photos; above 1 the model was too sure.

    That is the least log-loss, with a normal prior of ln(temperature) around 0, which counts where photos are few.
    `labels` (n,) and `probabilities` (n, c), of photos that were not trained on. Rounded to 4 digits, within `BOUNDS`.
    Raises ValueError as `metrics.scores` does.
    """
    from scipy import optimize

    classification.check(labels, probabilities)

    def loss(log_temperature: float) -> float:
        prior = (log_temperature / SPREAD) ** 2 / (2 * len(labels))
        return (
            float(classification.losses(labels, scaled(probabilities, float(np.exp(log_temperature)))).mean()) + prior
        )

    found = optimize.minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


def scaled(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, c) of the logits divided by the temperature: softmax(ln p / temperature)."""
    logits = np.log(np.clip(probabilities.astype(np.float64), classification.SMALLEST * 1e-9, 1.0)) / temperature
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return found


def threshold(labels: Labels, probabilities: Probabilities, sure: float = SURE) -> float:
    """The least probability of an answer, 0 ... 1, that is to be called sure: those below it are unsure.

    It is the lowest one that was given to any of these photos (n,), not trained on, such that a share `sure` of the
    answers (n, c) with at least that probability is right; 1 where even the surest are right less often (selective
    classification: Geifman and El-Yaniv, arXiv 1705.08500, without their bound). It lies a little below that one, so
    that rounding does not matter, and above the next lower one. At a threshold of 1 every answer is unsure.
    """
    classification.check(labels, probabilities)
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    surest_first = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[surest_first], right[surest_first]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    ends = np.append(np.diff(confidence) != 0, True)  # equal probabilities come along or stay out together
    good = np.flatnonzero((share >= sure) & ends)
    if not len(good):
        return 1.0
    lowest, below = np.append(confidence, 0.0)[good[-1] : good[-1] + 2]
    return float(max((lowest + below) / 2, lowest - 1e-4))


def reliability(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> pd.DataFrame:
    """A row per bin of the predicted class's probability, bins of equal width from 0 to 1; empty ones are left out.

    Columns: low, high, photos, confidence (mean probability of the predicted class), accuracy.
    """
    classification.check(labels, probabilities)
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": right})
    found = table.groupby("bin").agg(
        photos=("accuracy", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    edges = pd.DataFrame({"low": found.index / bins, "high": (found.index + 1) / bins}, index=found.index)
    return edges.join(found).reset_index(drop=True)


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> float:
    """Mean over the photos of |confidence - accuracy| of their bins, 0 (as sure as right) ... 1."""
    table = reliability(labels, probabilities, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["photos"]).sum() / table["photos"].sum())
