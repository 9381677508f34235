"""Colours and soft random textures."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from draw_sample.mesh import Array

Hsv = tuple[float, float, float]
Rng = np.random.Generator
T = TypeVar("T")


def rgb(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """Red, green and blue within 0..1 on a new last axis; the hue in degrees."""
    hue, saturation, value = np.broadcast_arrays(hue, np.clip(saturation, 0, 1), np.clip(value, 0, 1))
    corner = (hue[..., None] / 60 + [5, 3, 1]) % 6
    ramp = np.clip(np.minimum(corner, 4 - corner), 0, 1)
    mixed: Array = value[..., None] * (1 - saturation[..., None] * ramp)
    return mixed


def jittered(rng: Rng, colour: Hsv, hue: float = 5, saturation: float = 0.06, value: float = 0.05) -> Array:
    """A colour near the given one, (3,)."""
    return rgb(colour[0] + rng.normal(0, hue), colour[1] + rng.normal(0, saturation), colour[2] + rng.normal(0, value))


def pick(rng: Rng, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the options, by weight."""
    share = None if weights is None else np.asarray(weights, float) / sum(weights)
    return options[int(rng.choice(len(options), p=share))]


def blend(first: Array, second: Array, share: Array | float) -> Array:
    """The first colour where the share is 0, the second where it is 1."""
    mixed: Array = first + (second - first) * np.asarray(share)[..., None]
    return mixed


def enlarged(field: Array, size: int) -> Array:
    """A small field (h, w) or (h, w, 3) as a smooth one of size × size."""
    if field.ndim == 3:
        return np.stack([enlarged(field[..., channel], size) for channel in range(field.shape[2])], axis=-1)
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float64)


def clouds(rng: Rng, size: int, cells: Sequence[int] = (3, 6, 12), fall: float = 0.6) -> Array:
    """Smooth noise (size, size) around 0 with a spread near 1: one octave for each number of cells."""
    total: Array = np.zeros((size, size))
    for octave, count in enumerate(cells):
        total += fall**octave * enlarged(rng.normal(size=(count + 1, count + 1)), size)
    total /= total.std() + 1e-9
    return total
