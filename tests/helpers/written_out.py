"""A stratified bootstrap by its definition, image by image, with scikit-learn's scores."""

import numpy as np
from sklearn import metrics as sk

from flowers.metrics import classification


def resample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The weight of each image: of a class of n, n - 1 are drawn with replacement and scaled to n."""
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        drawn = max(len(own) - 1, 1)
        for image in rng.choice(own, drawn):
            weights[image] += len(own) / drawn
    return weights


def scores(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The scores of weighted images."""
    predicted, present = probabilities.argmax(axis=1), np.unique(labels)
    found = {
        "accuracy": sk.accuracy_score(labels, predicted, sample_weight=weights),
        "mean_per_class_accuracy": sk.recall_score(
            labels, predicted, labels=present, average="macro", sample_weight=weights
        ),
    }
    if probabilities.shape[1] > 5:
        right = classification.right_class_place(labels, probabilities) < 5
        found["top5_accuracy"] = float(np.average(right, weights=weights))
    found["log_loss"] = float(np.average(classification.losses(labels, probabilities), weights=weights))
    found["macro_f1"] = sk.f1_score(
        labels, predicted, labels=present, average="macro", sample_weight=weights, zero_division=0
    )
    return found
