"""The detector of unknown images: ratios, thresholds, classes that are left out."""

import numpy as np
import pytest

from flowers.metrics import novelty

WIDTHS = (6, 10)
CLASSES = 8
ALONE = [str(number) for number in range(160)]  # no near-duplicates


def images(means: np.ndarray, labels: np.ndarray, seed: int, spread: float = 0.25) -> np.ndarray:
    """Positive features that scatter around the mean of their class, (n, 16) float32."""
    return np.exp(means[labels] + np.random.default_rng(seed).normal(0, spread, (len(labels), 16))).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    """Means of known and unknown classes, and features and labels of training images."""
    means = np.random.default_rng(0).normal(0, 1, (CLASSES + 4, 16))
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), 20)
    return means, images(means, labels, 1), labels


@pytest.fixture(scope="module")
def fitted(world):
    _, features, labels = world
    return novelty.fit(features, labels, CLASSES, WIDTHS)


def test_images_of_known_classes_are_told_from_those_of_others(world, fitted):
    means, _, _ = world
    labels = np.repeat(np.arange(CLASSES + 4), 50)
    best = fitted.detector.ratios(images(means, labels, 2)).max(axis=1)
    known = labels < CLASSES
    assert novelty.scores(best[known], best[~known])["auroc"] > 0.97


def test_the_largest_ratio_is_that_of_the_images_class(world, fitted):
    means, _, labels = world
    assert (fitted.detector.ratios(images(means, labels, 3)).argmax(axis=1) == labels).mean() > 0.95


def test_only_the_last_features_are_read_and_their_scale_does_not_matter(world, fitted):
    _, features, _ = world
    more = np.concatenate([np.full((len(features), 3), 9, np.float32), 7 * features], axis=1)
    np.testing.assert_allclose(fitted.detector.ratios(more), fitted.detector.ratios(features), rtol=1e-3, atol=1e-3)


def test_few_training_images_of_a_class_count_less(world):
    """The ratio of a class with one training image is nearer to 0, at its very image, than with twenty of them."""
    means, features, labels = world
    kept = np.flatnonzero((labels != 0) | (np.arange(len(labels)) == 0))
    few = novelty.fit(features[kept], labels[kept], CLASSES, WIDTHS).detector
    many = novelty.fit(features, labels, CLASSES, WIDTHS).detector
    centre = np.exp(means[:1]).astype(np.float32)
    assert 0 < few.ratios(centre)[0, 0] < many.ratios(centre)[0, 0]


def test_a_class_without_training_images_is_never_the_nearest(world):
    _, features, labels = world
    rows = labels != 3
    ratios = novelty.fit(features[rows], labels[rows], CLASSES, WIDTHS).detector.ratios(features)
    assert np.isneginf(ratios[:, 3]).all() and np.isfinite(np.delete(ratios, 3, axis=1)).all()


def test_an_image_outside_of_what_training_images_span_is_unknown_though_its_ratio_is_high():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 4)  # twelve images span eleven of the directions
    features = np.exp(np.repeat(random.normal(0, 1, (3, 200)), 4, axis=0) + random.normal(0, 0.1, (12, 200)))
    detector = novelty.fit(features.astype(np.float32), labels, 3, (200,)).detector
    new = np.exp(np.log(features) + random.normal(0, 0.1, features.shape)).astype(np.float32)
    far = np.exp(np.log(features) + random.normal(0, 0.8, features.shape)).astype(np.float32)
    limited = detector.limited(detector.best(new)[1])
    border = novelty.threshold(limited.ratios(new).max(axis=1), 0.9)
    assert (limited.ratios(far).max(axis=1) < border).all()
    np.testing.assert_array_equal(limited.ratios(new)[:5].argmax(axis=1), labels[:5])


@pytest.mark.parametrize(("rate", "kept"), [(0.95, 19), (0.9, 18), (0.5, 10), (0.999, 20)])
def test_the_threshold_keeps_at_least_the_wanted_share(rate, kept):
    best = np.random.default_rng(0).permutation(np.arange(20, dtype=np.float32))
    assert (best >= novelty.threshold(best, rate)).sum() == kept


def test_cross_validation_gives_a_threshold_that_keeps_new_images(world, fitted):
    means, features, labels = world
    best, distances = novelty.held_out(features, labels, ALONE, CLASSES, WIDTHS)
    assert len(best) == len(distances) == len(features)
    new = fitted.detector.ratios(images(means, np.repeat(np.arange(CLASSES), 100), 4)).max(axis=1)
    assert 0.88 < (new >= novelty.threshold(best, 0.95)).mean() < 0.99
    seen = fitted.detector.ratios(features).max(axis=1)
    assert novelty.threshold(best, 0.95) < novelty.threshold(seen, 0.95)


def test_a_class_that_is_left_out_is_told_from_the_others(world, fitted):
    means, _, labels = world
    tested = {"test": (labels, images(means, labels, 5)), "few": (labels[:3], images(means, labels[:3], 6))}
    found, foreign = novelty.leave_out(fitted, tested)["test"]
    assert found["auroc"] > 0.95 and found["fpr95"] < 0.3 and foreign.shape == (len(labels),)
    assert novelty.leave_out(fitted, {"test": tested["test"]})["test"][0] == pytest.approx(found, abs=0.02)
    assert novelty.leave_out(fitted, tested)["few"][0] == {}  # all of one class: there are no others


def test_with_two_classes_none_can_be_left_out(world):
    _, features, labels = world
    rows = labels < 2
    fitted = novelty.fit(features[rows], labels[rows], 2, WIDTHS)
    found, foreign = novelty.leave_out(fitted, {"test": (labels[rows], features[rows])})["test"]
    assert found == {} and len(foreign) == 0


def test_a_class_of_one_image_and_one_of_equal_images_are_no_obstacle(world):
    _, features, labels = world
    features = features.copy()
    features[labels == 1] = features[20]
    rows = (labels != 2) | (np.arange(len(labels)) == 40)
    ratios = novelty.fit(features[rows], labels[rows], CLASSES, WIDTHS).detector.ratios(features[rows])
    assert np.isfinite(ratios).all() and (ratios.argmax(axis=1) == labels[rows]).mean() > 0.95


def test_near_duplicates_are_on_one_side_of_the_cross_validation(world):
    """An image and its copy: together they are unseen, apart the one would vouch for the other."""
    _, features, labels = world
    twice, numbers = np.repeat(features[::2], 2, axis=0), np.repeat(labels[::2], 2)
    together = [str(number // 2) for number in range(len(twice))]
    apart = novelty.held_out(twice, numbers, [str(number) for number in range(len(twice))], CLASSES, WIDTHS)[0]
    assert np.median(novelty.held_out(twice, numbers, together, CLASSES, WIDTHS)[0]) < np.median(apart)


def test_too_few_images_for_a_cross_validation_are_an_error(world):
    _, features, _ = world
    labels = np.array([0, 0, 1], np.int32)
    with pytest.raises(novelty.NoSpread, match="too few training images for a cross-validation"):
        novelty.held_out(features[:3], labels, ["a", "a", "b"], 2, WIDTHS)


@pytest.mark.parametrize("copies", [2, 3])
def test_classes_of_the_same_few_images_have_finite_ratios(world, copies):
    _, features, _ = world
    labels = np.repeat(np.arange(4, dtype=np.int32), copies)
    ratios = novelty.fit(np.tile(features[:copies], (4, 1)), labels, 4, WIDTHS).detector.ratios(features)
    assert np.isfinite(ratios).all()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (lambda features, labels: (features[::20], labels[::20]), "no class has two different training images"),
        (lambda features, labels: (np.repeat(features[::20], 3, 0), np.repeat(labels[::20], 3)), "no class has two"),
        (lambda features, labels: (np.ones_like(features), labels), "all training images are equal"),
        (lambda features, labels: (np.zeros_like(features), labels), "all training images are equal"),
        (lambda features, labels: (features[:1], labels[:1]), "all training images are equal"),
    ],
)
def test_training_images_without_a_spread_are_an_error(world, chosen, message):
    _, features, labels = world
    with pytest.raises(novelty.NoSpread, match=message):
        novelty.fit(*chosen(features, labels), CLASSES, WIDTHS)


def test_scores_of_a_perfect_and_of_a_useless_number():
    assert novelty.scores(np.arange(5, 10.0), np.arange(5.0)) == {"auroc": 1.0, "fpr95": 0.0}
    same = np.zeros(10)
    assert novelty.scores(same, same) == {"auroc": 0.5, "fpr95": 1.0}
