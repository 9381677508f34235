"""Doubtful labels, on features that separate the classes."""

import warnings

import numpy as np
import pytest

from flowers.stages.check import labels


def clusters(per_class=(30, 30, 30), spread=1.0, seed=0):
    """Features (n, 8) of separate classes, and their numbers."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(per_class)), per_class)
    centres = 6 * np.eye(len(per_class), 8)
    return centres[numbers] + spread * rng.normal(size=(len(numbers), 8)), numbers


def alone(count):
    return np.array([f"{row}" for row in range(count)])


def test_wrong_labels_come_first_and_right_labels_are_hardly_doubtful():
    features, numbers = clusters()
    planted = [3, 40, 77]
    numbers[planted] = [1, 2, 0]
    chances = labels.probabilities(features, numbers, alone(90), 3)
    found = labels.doubtful(numbers, chances)
    assert set(found[:3]) == set(planted)
    assert chances[planted].argmax(axis=1).tolist() == [0, 1, 2]
    assert len(found) <= 6
    features, numbers = clusters(spread=0.5)
    assert len(labels.doubtful(numbers, labels.probabilities(features, numbers, alone(90), 3))) == 0


def test_probabilities_sum_to_one_and_are_deterministic():
    features, numbers = clusters(spread=3)
    chances = labels.probabilities(features, numbers, alone(90), 4)  # the fourth class has no image
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances[:, 3] == 0).all()
    assert (labels.probabilities(features, numbers, alone(90), 4) == chances).all()


def test_no_model_judges_near_duplicates_of_its_training_images():
    """Else copies with the same wrong label would confirm each other."""
    features, numbers = clusters()
    rows = np.concatenate([np.arange(90), np.full(9, 0)])  # nine copies of the first photo of class 0
    features, numbers = features[rows], numbers[rows]
    wrong = np.flatnonzero(rows == 0)
    numbers[wrong] = 2
    pictures = rows.astype(str)
    own = np.arange(len(rows)), numbers
    together = labels.probabilities(features, numbers, pictures, 3)[own]
    apart = labels.probabilities(features, numbers, alone(len(rows)), 3)[own]
    assert together[wrong].max() < 0.1 < apart[wrong].min()


@pytest.mark.parametrize("few", [1, 3])
def test_a_class_of_few_images_is_judged_only_by_models_fitted_on_it(few):
    features, numbers = clusters((30, 30, few))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chances = labels.probabilities(features, numbers, alone(60 + few), 3)
        found = labels.doubtful(numbers, chances)
    unjudged = np.isnan(chances).any(axis=1)
    assert not unjudged[:60].any()
    assert unjudged[60:].all() if few == 1 else not unjudged[60:].all()
    assert not set(found) & set(np.flatnonzero(unjudged))


def test_too_few_images_for_cross_validation_are_not_judged():
    features, numbers = clusters((1, 1, 1))
    chances = labels.probabilities(features, numbers, alone(3), 3)
    assert np.isnan(chances).all()
    assert labels.doubtful(numbers, chances).tolist() == []
    one = labels.probabilities(features[:1], numbers[:1], alone(1), 3)
    assert np.isnan(one).all()


def test_nothing_is_printed(capfd):
    features, numbers = clusters((30, 30, 2))
    numbers[5] = 1
    labels.doubtful(numbers, labels.probabilities(features, numbers, alone(62), 3))
    assert capfd.readouterr() == ("", "")
