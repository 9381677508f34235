"""Bootstrap intervals, compared with a bootstrap written out image by image."""

import time

import numpy as np
import pytest
import written_out
from reporting_world import world

from flowers.metrics import bootstrap, classification


def slow_bootstrap(labels, probabilities, samples, seed):
    """The definition: draw images within each class, score them, take percentiles."""
    rng = np.random.default_rng(seed)
    drawn = [written_out.scores(labels, probabilities, written_out.resample(labels, rng)) for _ in range(samples)]
    return {name: np.quantile([scores[name] for scores in drawn], (0.025, 0.975)) for name in drawn[0]}


def with_an_absent_class():
    labels, probabilities = world(7, 150, sharpness=1.2)
    keep = labels != 2
    return labels[keep], probabilities[keep]


def lopsided():
    """A large easy class, sometimes confused with a small hard one; drawing across classes would differ widely."""
    labels = np.array([0] * 150 + [1] * 10)
    second = np.r_[np.full(140, 0.01), np.full(10, 0.9), np.full(4, 0.55), np.full(6, 0.005)]
    return labels, np.stack([1 - second, second], axis=1).astype(np.float32)


@pytest.mark.parametrize("make", [with_an_absent_class, lopsided])
def test_intervals_are_those_of_a_bootstrap_written_out(make):
    labels, probabilities = make()
    slow = slow_bootstrap(labels, probabilities, 1500, seed=1)
    fast = bootstrap.intervals(labels, probabilities, samples=20_000, seed=2)
    assert list(fast) == list(slow)
    for name, (low, high) in fast.items():
        width = slow[name][1] - slow[name][0]
        assert abs(low - slow[name][0]) < 0.12 * width + 1e-9, name
        assert abs(high - slow[name][1]) < 0.12 * width + 1e-9, name


def test_resampling_is_within_classes():
    """One class is always right, the other never: accuracy varies only if images are drawn across classes."""
    labels = np.array([0] * 50 + [1] * 50)
    probabilities = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (100, 1))
    found = bootstrap.intervals(labels, probabilities, samples=500, seed=0)
    assert found["accuracy"] == (0.5, 0.5)


def test_intervals_contain_the_score_and_narrow_with_lower_confidence():
    labels, probabilities = world(6, 400, sharpness=1.5)
    scores = classification.scores(labels, probabilities)
    wide = bootstrap.intervals(labels, probabilities, 2000, 0)
    narrow = bootstrap.intervals(labels, probabilities, 2000, 0, confidence=0.5)
    assert list(wide) == list(scores)
    for name, score in scores.items():
        assert wide[name][0] < narrow[name][0] < score < narrow[name][1] < wide[name][1]


def test_intervals_depend_on_the_seed_alone():
    labels, probabilities = world(6, 400)
    first = bootstrap.intervals(labels, probabilities, 500, seed=3)
    assert bootstrap.intervals(labels, probabilities, 500, seed=3) == first
    assert bootstrap.intervals(labels, probabilities, 500, seed=4) != first


def test_drawing_in_parts_changes_only_the_draws(monkeypatch):
    labels, probabilities = world(6, 400)
    whole = bootstrap.intervals(labels, probabilities, 4000, seed=0)
    monkeypatch.setattr(bootstrap, "CHUNK", 1000)
    for name, limits in bootstrap.intervals(labels, probabilities, 4000, seed=0).items():
        assert limits == pytest.approx(whole[name], abs=0.15 * (whole[name][1] - whole[name][0])), name


def test_ten_thousand_samples_of_the_largest_test_set_are_quick():
    labels, probabilities = world(102, 6149, sharpness=3.5)
    start = time.process_time()
    bootstrap.intervals(labels, probabilities, samples=10_000, seed=0)
    assert time.process_time() - start < 6  # about 1 s; the slack is for busy machines


def test_the_variance_of_a_mean_of_few_images_is_unbiased():
    """It is s²/n with the unbiased s²; with n draws instead of n - 1 it would be a third too small here."""
    labels, probabilities = np.repeat([0, 1], 3), np.array([[0.9, 0.5, 0.3, 0.8, 0.6, 0.1]]).T
    probabilities = np.hstack([probabilities, 1 - probabilities])
    (drawn,) = bootstrap.resampled(labels, [probabilities], 50_000, seed=0)
    losses = classification.losses(labels, probabilities).reshape(2, 3)
    expected = (losses.var(axis=1, ddof=1) / 3).sum() / 4
    assert drawn["log_loss"].var() == pytest.approx(expected, rel=0.05)
