"""Grad-CAM: the places of a photo that speak for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (arXiv 1610.02391),
at what is pooled, the output of the last convolution. Between it and the logits stand an average over its places and
the head, so the gradient is the same at all places: the head's, and no convolution is run backwards.
"""

from collections.abc import Sequence

import numpy as np

from flowers.model import backend
from flowers.model.classifier import Classifier


def maps(model: Classifier, images: Sequence[np.ndarray], classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """How much each place of an image speaks for its class, from 0 to 1 at the strongest one: float32 (n, k, k).

    k is size/32. `images` are n of uint8 RGB (size, size, 3) as `images.load` returns them, `classes` n class numbers.
    A map is all 0 where no place speaks for the class.
    """
    places = model.size // 32
    heat = np.zeros((len(images), places, places), np.float32)
    for row, (image, number) in enumerate(zip(images, classes, strict=True)):
        features = model.feature_maps(image)
        weighted = np.maximum(features @ _weights(model, features.mean(axis=(0, 1)), int(number)), 0)
        heat[row] = weighted / (weighted.max() or 1)
    return heat


def _weights(model: Classifier, pooled: np.ndarray, number: int) -> np.ndarray:
    """What a unit more of each pooled feature adds to the class's logit, (features,)."""
    tf = backend.tensorflow()
    features = tf.constant(pooled[None])
    with tf.GradientTape() as tape:
        tape.watch(features)
        logit = model.trainable.head(features, training=False)[0, number]
    gradient: np.ndarray = tape.gradient(logit, features)[0].numpy()
    return gradient
