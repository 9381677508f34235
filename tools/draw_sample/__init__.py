"""The sample data set: images of flowers drawn by code, so that a fresh clone can train without a download."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from draw_sample.scene import LABELS, compose
from flowers.common.errors import UserError

__all__ = ["LABELS", "draw", "image"]

QUALITY = 82


def draw(folder: Path, per_class: int = 60, seed: int = 0, size: int = 256) -> None:
    """Write `per_class` JPEGs of each class as <folder>/<class>/<class>_000.jpg, ...; equal seeds give equal bytes.

    Raises:
        UserError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: name one that does not exist yet, or empty it first.")
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            drawn = image(label, numbered(seed, label, index), size)
            drawn.save(folder / label / f"{label}_{index:03d}.jpg", quality=QUALITY)


def image(label: str, rng: np.random.Generator, size: int = 256) -> Image.Image:
    """An image of a class of `LABELS`: RGB, size × size.

    Raises:
        ValueError: there is no such class.
    """
    if label not in LABELS:
        raise ValueError(f"{label!r} is no class of the sample; the classes are {', '.join(LABELS)}")
    return compose(label, rng, size)


def numbered(seed: int, label: str, index: int) -> np.random.Generator:
    """The random numbers of one image, from seed, class and index alone: a larger set begins like a smaller one."""
    return np.random.default_rng([seed, zlib.crc32(label.encode()), index])
