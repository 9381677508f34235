"""Predictions to report on."""

import numpy as np


def world(n_classes, images, seed=0, sharpness=2.5):
    """Labels (images,) and probabilities (images, n_classes) of a fair classifier; every class has images."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=images - n_classes)])
    logits = rng.normal(size=(images, n_classes)).astype(np.float32)
    logits[np.arange(images), labels] += sharpness
    exponents = np.exp(logits)
    return labels, exponents / exponents.sum(axis=1, keepdims=True)
