"""Grad-CAM overlays: the regions of an image that support a class, and a folder of such overlays."""

from itertools import count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from flowers.common import paths
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
    """A JPEG of an image in grey, with the regions that support class `number` in colour (Grad-CAM).

    `pixels` are uint8 RGB (size, size, 3). Raises UserError where the model is an exported network.
    """
    from flowers.model import gradcam
    from flowers.reporting import thumbnails

    return thumbnails.jpeg(thumbnails.overlay(pixels, gradcam.maps(check(model), [pixels], [number])[0]))


class Folder:
    """A folder of overlays, each at the place of its image."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where something other than an empty folder is at `path`."""
        paths.require_empty(path)
        self._path = path

    def add(self, place: PurePath, content: bytes) -> Path:
        """Write a JPEG: rose.jpg for rose.jpg, tulip.png.jpg for tulip.png; a second rose.jpg is `rose (2).jpg`."""
        stem = place.stem if place.suffix.lower() in (".jpg", ".jpeg") else place.name
        folder = self._path / place.parent
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            file = folder / (f"{stem} ({number}).jpg" if number > 1 else f"{stem}.jpg")
            if not file.exists():
                break
        file.write_bytes(content)
        return file
