"""The brightness of images, and the pixels that are kept."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from flowers.common.errors import UserError
from flowers.data import images
from flowers.reporting import brightness
from flowers.training.activation_cache import Item

COLOURS = {"black": 0, "white": 1, "red": 0.299, "lime": 0.587, "blue": 0.114, "#808080": 128 / 255}


@pytest.fixture
def items(tmp_path):
    made = []
    for name in COLOURS:
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (300, 250), name).save(path)
        made.append(Item(path, hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


def test_brightness_is_the_luma_of_a_colour(items):
    luma, kept = brightness.measure(items, ())
    assert luma == pytest.approx(list(COLOURS.values())) and kept == {}


def test_brightness_is_that_of_the_input_of_the_network(tmp_path):
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255  # the centre, to which so wide an image is cropped
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    item = Item(tmp_path / "wide.png", hashlib.sha256((tmp_path / "wide.png").read_bytes()).hexdigest())
    luma, _ = brightness.measure([item], ())
    assert luma[0] > 0.98


def test_only_the_shown_pixels_are_kept_and_each_image_is_decoded_once(items, monkeypatch):
    decoded = []
    original = images.load
    monkeypatch.setattr(images, "load", lambda *source: decoded.append(source) or original(*source))
    _, kept = brightness.measure(items, {2, 4})
    assert sorted(kept) == [2, 4] and len(decoded) == len(items)
    assert kept[2].shape == (224, 224, 3) and kept[2][0, 0].tolist() == [255, 0, 0]


def test_a_changed_image_is_an_error_naming_it(items):
    Image.new("RGB", (10, 10)).save(items[3].path)
    with pytest.raises(UserError, match=r"lime\.png: changed since it was listed"):
        brightness.measure(items, ())
