"""The check of a network in int8: what is counted, and what is refused."""

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
    ("found", "refused"),
    [
        (checked(), None),
        (checked(1000, lost=5, changed=20), None),  # the limits themselves
        (checked(1000, lost=6), "0.6% fewer validation photos are right"),
        (checked(1000, lost=12, gained=7), None),
        (checked(1000, lost=13, gained=7), "0.6% fewer validation photos are right"),
        (checked(10_000, lost=110, gained=50), "0.6% fewer validation photos are right"),
        (checked(1000, gained=9, changed=21), "2.1% of the photos get another answer"),
        (checked(45, lost=1, compared=300), None),  # 2.2 points, and says nothing
        (checked(45, lost=3, gained=2, compared=300), None),
        (checked(45, lost=2, compared=300), r"2 lost, 0 gained"),
        (checked(45, compared=300, changed=7), "2.3% of the photos"),
        (checked(6, lost=1, compared=18), None),
        (checked(6, compared=18, changed=2), "11.1% of the photos"),
    ],
)
def test_what_loses_or_changes_too_much_is_refused(found, refused):
    reason = check.refusal(found)
    assert reason is None if refused is None else refused in reason


class ByBrightness:
    """Says "dark" below a brightness, else "bright"."""

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
    """A function that makes a photo of one grey."""

    def make(value: int) -> Item:
        file = tmp_path / f"{value}.png"
        Image.new("L", (230, 230), value).save(file)
        return Item(file, hashlib.sha256(file.read_bytes()).hexdigest())

    return make


def test_right_answers_and_changed_ones_are_counted(grey):
    """Of 0, 10, ... 90 the labels say that 50 and more are bright; of 100 and 210 nobody knows."""
    validation, others = [grey(value) for value in range(0, 100, 10)], [grey(100), grey(210)]
    labels = np.array([0] * 5 + [1] * 5)
    found, speed = check.compare(ByBrightness(35), ByBrightness(105), validation, labels, others)
    assert found == Checked(validation=10, right_before=9, lost=5, gained=1, compared=12, changed=7)
    assert str(found) == (
        "90.0% of 10 validation photos right before, 50.0% after; another answer to 7 of 12 photos (58.3%)"
    )
    assert speed.gain is None  # too few to tell


def test_the_speed_is_that_of_the_fastest_full_batch_but_the_first(grey, monkeypatch):
    """Seconds of before and after, in turns; the last photo fills no batch."""
    seconds = [(9, 9), (4, 2), (3, 5), (8, 1), (1, 1)]
    ends = np.cumsum([0, *(value for pair in seconds for taken in pair for value in (taken, 0))])
    clock = iter(ends.tolist())
    monkeypatch.setattr(check.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(check, "BATCH", 2)
    items = [grey(value) for value in range(9)]
    _, speed = check.compare(ByBrightness(3), ByBrightness(3), items, np.zeros(9, int), [])
    assert (speed.before, speed.after) == ([4, 3, 8], [2, 5, 1])
    assert speed.gain == 3


def test_a_photo_that_changed_is_named(grey):
    item = grey(7)
    item.path.write_bytes(b"another")
    with pytest.raises(UserError, match=r"7\.png: changed since it was listed; run `dvc repro`"):
        check.compare(ByBrightness(3), ByBrightness(3), [item], np.zeros(1, int), [])
