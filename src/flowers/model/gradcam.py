"""Grad-CAM: which positions of an image raise the logit of a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (arXiv 1610.02391),
applied to the feature maps before pooling. Only pooling and the head follow, so no convolution is differentiated.
"""

from collections.abc import Sequence

import numpy as np

from flowers.model.classifier import Classifier


def maps(model: Classifier, images: Sequence[np.ndarray], classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Maps of class numbers for uint8 RGB images: float32 (n, size/32, size/32), scaled to a maximum of 1, or all 0."""
    side = model.size // 32
    heat = np.zeros((len(images), side, side), np.float32)
    for row, (image, number) in enumerate(zip(images, classes, strict=True)):
        features = model.feature_maps(image)
        weighted = np.maximum(features @ model.logit_gradient(features.mean(axis=(0, 1)), int(number)), 0)
        heat[row] = weighted / (weighted.max() or 1)
    return heat
