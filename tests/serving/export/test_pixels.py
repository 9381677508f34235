"""The reference in the documentation, from a photo to pixels, against training's own."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowers.data import images

PAGE = Path(__file__).parents[3] / "docs" / "exports.md"


@pytest.fixture(scope="module")
def reference():
    """The function `pixels` of the page."""
    (code,) = re.findall(r"```python\n(from PIL.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names["pixels"]


def photo(width: int, height: int, mode: str, kind: str, orientation: int = 1) -> bytes:
    random = np.random.default_rng(width)
    small = Image.fromarray(random.integers(0, 256, (12, 16, 4), np.uint8), "RGBA")
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    small.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(stream, kind, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(
    "given",
    [
        *((300, 200, "RGB", "JPEG"), (200, 411, "RGB", "PNG"), (90, 50, "L", "PNG"), (640, 480, "RGBA", "PNG")),
        *((223, 500, "P", "PNG"), (333, 222, "RGB", "JPEG", 6), (700, 880, "CMYK", "JPEG")),
    ],
)
def test_the_reference_makes_the_pixels_of_training(reference, given):
    content = photo(*given)
    found = reference(io.BytesIO(content), 224)
    assert (found.shape, found.dtype) == ((1, 224, 224, 3), np.uint8)
    np.testing.assert_array_equal(found[0], images.load(content))


def test_of_a_large_jpeg_it_differs_by_less_than_a_grey_level(reference):
    content = photo(3000, 2000, "RGB", "JPEG")
    apart = np.abs(reference(io.BytesIO(content), 224)[0].astype(int) - images.load(content))
    assert 0 < apart.mean() < 1
