"""Grad-CAM overlays: the regions of an image that support a class, each at the place of its image in a folder."""

from itertools import count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from flowers.common.errors import UserError
from flowers.serving.stream import Model

if TYPE_CHECKING:
    from flowers.model.classifier import Classifier


def check(model: Model) -> "Classifier":
    """The model; raises UserError where it is an exported network, which has no gradients."""
    from flowers.model.classifier import Classifier

    if not isinstance(model, Classifier):
        raise UserError("an exported network cannot be explained; use the model that it was exported from")
    return model


def overlay(model: Model, pixels: np.ndarray, number: int) -> bytes:
    """A JPEG of pixels, uint8 RGB (size, size, 3), in grey, with Grad-CAM of class `number` in colour; see `check`."""
    from flowers.data import images
    from flowers.model import gradcam
    from flowers.reporting import thumbnails

    return images.jpeg(thumbnails.overlay(pixels, gradcam.maps(check(model), [pixels], [number])[0]))


def save(folder: Path, place: PurePath, content: bytes) -> Path:
    """Write a JPEG: rose.jpg for rose.jpg, tulip.png.jpg for tulip.png; a second rose.jpg is `rose (2).jpg`."""
    stem = place.stem if place.suffix.lower() in (".jpg", ".jpeg") else place.name
    (folder / place.parent).mkdir(parents=True, exist_ok=True)
    names = (f"{stem} ({number}).jpg" if number > 1 else f"{stem}.jpg" for number in count(1))
    file = next(file for name in names if not (file := folder / place.parent / name).exists())
    file.write_bytes(content)
    return file
