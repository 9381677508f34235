"""The proof of an export: the counts, and the limits of what passes."""

import hashlib

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from flowers.common.errors import UserError
from flowers.serving.export import proof, table
from flowers.serving.export.proof import Proof
from flowers.training.activation_cache import Item


def proved(validation=1000, lost=0, gained=0, compared=None, changed=None, difference=0.5) -> Proof:
    changed = lost + gained if changed is None else changed
    return Proof(validation, validation // 2, lost, gained, compared or validation, changed, difference, None)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (proved(1000, lost=5, changed=20), None),  # the limits themselves
        (proved(1000, lost=6), r"0.6 % fewer validation images are right, more than 0.5 % (6 lost, 0 gained)"),
        (proved(1000, lost=12, gained=7), None),
        (proved(1000, gained=9, changed=21), "2.1 % of the images get another label"),
        (proved(45, lost=1, compared=300), None),  # 2.2 points, but a single image
        (proved(45, lost=2, compared=300), "2 lost, 0 gained"),
        (proved(6, compared=18, changed=1), None),
        (proved(6, compared=18, changed=2), "11.1 % of the images"),
    ],
)
def test_int8_fails_when_it_loses_or_changes_too_much(found, reason):
    failure = proof.failure(found, "int8")
    assert failure is None if reason is None else reason in failure


@pytest.mark.parametrize(
    ("precision", "changed", "difference", "reason"),
    [
        ("float32", 1, 1e-4, None),
        ("float32", 2, 1e-5, "2 of 1000 images get another label, more than 1"),
        ("float32", 0, 1.1e-4, "a probability differs by 0.00011, more than 0.0001"),
        ("float32", 0, float("nan"), "a probability differs by nan"),
        ("float16", 1, 1e-2, None),
        ("float16", 0, 1.1e-2, "more than 0.01"),
    ],
)
def test_float_formats_fail_when_a_label_or_a_probability_differs(precision, changed, difference, reason):
    failure = proof.failure(proved(changed=changed, difference=difference), precision)
    assert failure is None if reason is None else reason in failure


class ByBrightness(StandIn):
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
    found = proof.compare(ByBrightness(35), ByBrightness(105), validation, labels, others)
    assert found == Proof(10, 9, lost=5, gained=1, compared=12, changed=7, difference=1.0, speed=None)


def test_the_table_has_the_figures_of_both(grey):
    found = Proof(10, 9, lost=5, gained=1, compared=12, changed=7, difference=0.25, speed=(10.0, 21.26))
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in table.markdown("It", found, 1_500_000).splitlines()
    ]
    assert rows[0] == ["10 validation images", "model, float32", "It"]
    assert rows[2:] == [
        ["right", "90.0 %", "50.0 %"],
        ["other labels, of 12", "", "7"],
        ["largest difference of a probability", "", "2.5e-01"],
        ["images/s", "10.0", "21.3"],
        ["size", "", "1.5 MB"],
    ]


def test_the_speeds_are_those_of_the_fastest_full_batches_without_the_first(grey, monkeypatch):
    """Seconds of before and after, in turns; the last image fills no batch."""
    seconds = [(9, 0.5), (4, 2), (3, 5), (8, 1), (1, 1)]
    ends = np.cumsum([0, *(value for pair in seconds for taken in pair for value in (taken, 0))])
    clock = iter(ends.tolist())
    monkeypatch.setattr(proof.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(proof, "BATCH", 2)
    items = [grey(value) for value in range(9)]
    found = proof.compare(ByBrightness(3), ByBrightness(3), items, np.zeros(9, int))
    assert found.speed == pytest.approx((2 / 3, 2))


def test_an_image_that_changed_is_named(grey):
    item = grey(7)
    item.path.write_bytes(b"another")
    with pytest.raises(UserError, match=r"7\.png: changed since it was listed; run `dvc repro`"):
        proof.compare(ByBrightness(3), ByBrightness(3), [item], np.zeros(1, int))
