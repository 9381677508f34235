"""Predictions to report on."""

import numpy as np


def world(n_classes, photos, seed=0, sharpness=2.5):
    """Labels (photos,) and probabilities (photos, n_classes) of a fair classifier; every class has photos."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=photos - n_classes)])
    logits = rng.normal(size=(photos, n_classes)).astype(np.float32)
    logits[np.arange(photos), labels] += sharpness
    exponents = np.exp(logits)
    return labels, exponents / exponents.sum(axis=1, keepdims=True)
