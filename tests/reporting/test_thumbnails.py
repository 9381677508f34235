"""Thumbnails: JPEGs of images with the expected hash, and Grad-CAM overlays."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from flowers.reporting import thumbnails

HOT = np.zeros((7, 7), np.float32)
HOT[1, 5] = 1


@pytest.fixture
def image(tmp_path, monkeypatch):
    """An image in build/images, and its hash."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "build/images/rose/1.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (80, 60), "red").save(file)
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_thumbnail_is_the_input_of_the_network(image):
    with Image.open(io.BytesIO(thumbnails.of("rose/1.png", image[1]))) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (224, 224))
        np.testing.assert_allclose(thumbnail.getpixel((100, 100)), (255, 0, 0), atol=6)


def test_a_changed_missing_or_unreadable_image_has_no_thumbnail(image):
    assert thumbnails.of("rose/1.png", "0" * 64) is None
    assert thumbnails.of("rose/2.png", image[1]) is None
    image[0].write_bytes(b"not an image")
    assert thumbnails.of("rose/1.png", hashlib.sha256(b"not an image").hexdigest()) is None


def test_heat_colours_its_own_region_and_leaves_the_rest_grey(pixels):
    found = thumbnails.overlay(pixels[1], HOT).astype(int)
    assert found.shape == (224, 224, 3)
    colourful = np.ptp(found, axis=2)
    hot = np.zeros((224, 224), bool)
    hot[32:64, 160:192] = True  # row 1 and column 5 of 7
    assert colourful[hot].mean() > 50 and np.median(colourful[~hot]) == 0
    assert np.argwhere(colourful > 60).mean(axis=0) == pytest.approx([48, 176], abs=6)


def test_without_heat_the_image_is_grey(pixels):
    found = thumbnails.overlay(pixels[0], np.zeros((7, 7)))
    np.testing.assert_allclose(found, np.repeat(pixels[0].mean(axis=2, keepdims=True), 3, axis=2), atol=0.51)
