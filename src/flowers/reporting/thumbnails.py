"""Thumbnails for pages: images as the network sees them, and Grad-CAM overlays."""

import hashlib

import numpy as np

from flowers.common import paths
from flowers.data import images

_OPACITY = 0.75  # of the colour where heat is 1


def of(path: str, sha256: str) -> bytes | None:
    """A JPEG of an image in build/images, 224 x 224; None unless that file is a readable image with this hash."""
    try:
        content = images.read(paths.IMAGES / path)
        return images.jpeg(images.load(content)) if hashlib.sha256(content).hexdigest() == sha256 else None
    except images.UnreadableImage:
        return None


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Pixels, uint8 RGB (height, width, 3), in grey with colour where `heat` (k, k), 0 ... 1, is high; uint8.

    The colours are matplotlib's inferno, which is perceptually uniform, for the colour-blind too.
    """
    from matplotlib import colormaps
    from PIL import Image

    size = pixels.shape[1], pixels.shape[0]
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)
    colour, opacity = 255 * colormaps["inferno"](strength)[..., :3], _OPACITY * strength[..., None]
    grey = pixels.mean(axis=2, keepdims=True)
    mixed: np.ndarray = ((1 - opacity) * grey + opacity * colour).round().astype(np.uint8)
    return mixed
