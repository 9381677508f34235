"""Means over trainings and images, with the variance of both."""

import numpy as np
import pytest

from flowers.metrics import classification, groups

TRUTH = 0.02  # the difference of the two settings


def drawn(rng, trainings=5, images=600, spread=0.01, difference=TRUTH):
    """Right or wrong for two settings: hard images, images that one setting finds easier, luck of seeds, and noise."""
    from scipy import stats

    labels = np.repeat(np.arange(3), images // 3)
    ease, found = rng.normal(0, 1.5, images), []
    total = np.sqrt(1.5**2 + 0.35**2 + (10 * spread) ** 2 + 0.8**2)
    for accuracy in (0.86, 0.86 + difference):
        own, seed = rng.normal(0, 0.35, images), rng.normal(0, 10 * spread, (trainings, 1))
        noise = rng.normal(0, 0.8, (trainings, images))
        found.append((total * stats.norm.ppf(accuracy) + ease + own + seed + noise > 0).astype(float))
    return labels, *found


def test_intervals_cover_the_true_difference():
    """Seeds differ: images alone would give intervals that are too short. 300 draws: 95 % is 93 to 97.5 %."""
    rng, covered, too_short = np.random.default_rng(0), 0, 0
    for _ in range(300):
        labels, one, other = drawn(rng, spread=0.02)
        low, high = groups.difference(labels, one, other).interval()
        covered += low <= TRUTH <= high
        low, high = groups.difference(labels, one[:1], other[:1]).interval()
        too_short += low <= TRUTH <= high
    assert 0.93 <= covered / 300 <= 0.975
    assert too_short / 300 < 0.9


def test_the_variance_is_that_of_repeated_draws():
    """What neither training nor image explains is in both of their spreads, and counts once."""
    rng = np.random.default_rng(6)
    found = [groups.difference(*drawn(rng, images=300, spread=0.0)) for _ in range(1000)]
    assert np.mean([each.variance for each in found]) == pytest.approx(np.var([each.value for each in found]), rel=0.1)


def test_equal_settings_are_rarely_called_different():
    rng = np.random.default_rng(1)
    assert sum(groups.difference(*drawn(rng, difference=0)).p < 0.05 for _ in range(300)) <= 15


def test_the_mean_of_values_is_the_mean_score():
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.repeat(np.arange(7), [3, 9, 5, 20, 1, 8, 4]))
    trainings = [rng.dirichlet(np.full(8, 0.3), len(labels)) for _ in range(4)]  # class 7 has no images
    values = groups.values(labels, trainings)
    assert values.keys() == {"accuracy", "mean_per_class_accuracy", "top5_accuracy", "log_loss"}
    for name, table in values.items():
        scores = [classification.scores(labels, each)[name] for each in trainings]
        assert table.mean(axis=1) == pytest.approx(scores), name
        assert groups.mean(labels, table).value == pytest.approx(np.mean(scores))


def test_two_single_trainings_have_the_variance_of_images_alone():
    labels, one, other = drawn(np.random.default_rng(3))
    found = groups.difference(labels, one[:1], other[:1])
    assert found.between is None and found.needed_trainings() is None and found.needed_images() is None
    assert 0 < found.variance < groups.difference(labels, one[:1], other).variance


@pytest.mark.parametrize("trainings", [5, 10])
def test_a_single_training_varies_as_those_of_the_other_group(trainings):
    """300 draws: 95 % is 93 to 97.5 %."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(300):
        labels, one, other = drawn(rng, trainings, spread=0.02, difference=0)
        low, high = groups.difference(labels, one[:1], other).interval()
        covered += low <= 0 <= high
    assert 0.93 <= covered / 300 <= 0.975


def test_the_trainings_and_images_that_are_needed_would_show_the_difference():
    """Of draws with the needed number, POWER of them show it."""
    rng = np.random.default_rng(4)
    known = [groups.difference(*drawn(rng, images=3000, trainings=20)) for _ in range(5)]
    images = int(np.mean([each.needed_images() for each in known])) // 3 * 3
    shown = sum(groups.difference(*drawn(rng, images=images, trainings=20)).p < 0.05 for _ in range(200)) / 200
    assert 0.7 <= shown <= 0.9


def test_more_trainings_are_needed_for_a_smaller_difference_and_too_few_images_show_none():
    labels = np.zeros(400, int)
    one, other = np.zeros((2, 400)), np.zeros((2, 400))
    one[0, :40], one[1, :60], other[0, :60], other[1, :80] = 1, 1, 1, 1  # 12.5 and 17.5 %, seeds 5 points apart
    assert groups.difference(labels, one, other).needed_trainings() == 8  # 2 x 0.05² / 2 / (0.05 / 2.8)²
    # Of six the variance is 0.3 x 0.05², and the number is that of both groups.
    assert groups.difference(labels, one, np.repeat(other, 3, axis=0)).needed_trainings() == 7
    other[0, 60:80] = 1
    assert groups.difference(labels, one, other).needed_trainings() == 3
    assert groups.difference(*drawn(np.random.default_rng(5), images=60)).needed_trainings() is None


def test_equal_trainings_of_equal_images_differ_by_nothing():
    labels, right = np.array([0, 1, 2]), np.ones((2, 3))
    found = groups.difference(labels, right, right)
    assert (found.value, found.interval(), found.p) == (0.0, (0.0, 0.0), 1.0)
    assert found.needed_images() is None
