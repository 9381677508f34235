"""What on a photo speaks for a class, as a picture."""

import numpy as np

from flowers.errors import UserError
from flowers.serving.stream import Model


def picture(model: Model, pixels: np.ndarray, number: int) -> bytes:
    """A JPEG of a photo, uint8 RGB (224, 224, 3), in grey, under colour where it speaks for class `number` (Grad-CAM).

    Raises UserError where the model is an exported network, which has no gradients.
    """
    from flowers.network import classifier, gradcam
    from flowers.reporting import thumbnails

    if not isinstance(model, classifier.Classifier):
        raise UserError("an exported network cannot be explained; ask the model that it was exported from")
    return thumbnails.jpeg(thumbnails.overlay(pixels, gradcam.maps(model, [pixels], [number])[0]))
