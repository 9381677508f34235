"""The check of an int8 network: the counts, and the limits of what passes."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from flowers.common.errors import UserError
from flowers.serving.openvino import check
from flowers.serving.openvino.check import Checked
from flowers.training.activation_cache import Item


def checked(validation=1000, lost=0, gained=0, compared=None, changed=None) -> Checked:
    changed = lost + gained if changed is None else changed
    return Checked(validation, validation // 2, lost, gained, compared or validation, changed)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (checked(1000, lost=5, changed=20), None),  # the limits themselves
        (checked(1000, lost=6), r"0.6 % fewer validation images are right, more than 0.5 % (6 lost, 0 gained)"),
        (checked(1000, lost=12, gained=7), None),
        (checked(1000, gained=9, changed=21), "2.1 % of the images get another label"),
        (checked(45, lost=1, compared=300), None),  # 2.2 points, but a single image
        (checked(45, lost=2, compared=300), "2 lost, 0 gained"),
        (checked(6, compared=18, changed=1), None),
        (checked(6, compared=18, changed=2), "11.1 % of the images"),
    ],
)
def test_a_network_fails_the_check_when_it_loses_or_changes_too_much(found, reason):
    failure = check.failure(found)
    assert failure is None if reason is None else reason in failure


class ByBrightness:
    """Predicts "dark" below a brightness, else "bright"."""

    classes = ("dark", "bright")
    threshold = None
    size = 224

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        bright = images.mean(axis=(1, 2, 3)) > self.limit
        return np.stack([~bright, bright], axis=1).astype(np.float32)


@pytest.fixture
def grey(tmp_path):
    """A function that makes an image of one grey."""

    def make(value: int) -> Item:
        file = tmp_path / f"{value}.png"
        Image.new("L", (230, 230), value).save(file)
        return Item(file, hashlib.sha256(file.read_bytes()).hexdigest())

    return make


def test_right_and_changed_labels_are_counted(grey):
    """Of 0, 10, ... 90 the labels say that 50 and more are bright; 100 and 210 have no label."""
    validation, others = [grey(value) for value in range(0, 100, 10)], [grey(100), grey(210)]
    labels = np.array([0] * 5 + [1] * 5)
    found, gain = check.compare(ByBrightness(35), ByBrightness(105), validation, labels, others)
    assert found == Checked(validation=10, right_before=9, lost=5, gained=1, compared=12, changed=7)
    assert str(found) == (
        "90.0 % of 10 validation images right before, 50.0 % after; another label for 7 of 12 images (58.3 %)"
    )
    assert gain is None  # too few images to tell


def test_the_gain_compares_the_fastest_full_batches_without_the_first(grey, monkeypatch):
    """Seconds of before and after, in turns; the last image fills no batch."""
    seconds = [(9, 0.5), (4, 2), (3, 5), (8, 1), (1, 1)]
    ends = np.cumsum([0, *(value for pair in seconds for taken in pair for value in (taken, 0))])
    clock = iter(ends.tolist())
    monkeypatch.setattr(check.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(check, "BATCH", 2)
    items = [grey(value) for value in range(9)]
    _, gain = check.compare(ByBrightness(3), ByBrightness(3), items, np.zeros(9, int), [])
    assert gain == 3


def test_an_image_that_changed_is_named(grey):
    item = grey(7)
    item.path.write_bytes(b"another")
    with pytest.raises(UserError, match=r"7\.png: changed since it was listed; run `dvc repro`"):
        check.compare(ByBrightness(3), ByBrightness(3), [item], np.zeros(1, int), [])
