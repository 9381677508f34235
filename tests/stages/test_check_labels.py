"""Labels in doubt, on features that tell the classes apart."""

import warnings

import numpy as np
import pytest

from flowers.stages.check import labels


def clusters(per_class=(30, 30, 30), spread=1.0, seed=0):
    """Features (n, 8) of classes that lie apart, and their numbers."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(per_class)), per_class)
    centres = 6 * np.eye(len(per_class), 8)
    return centres[numbers] + spread * rng.normal(size=(len(numbers), 8)), numbers


def alone(count):
    return np.array([f"{row}" for row in range(count)])


def test_planted_errors_come_first():
    features, numbers = clusters()
    planted = [3, 40, 77]
    numbers[planted] = [1, 2, 0]
    chances = labels.probabilities(features, numbers, alone(90), 3)
    found = labels.doubtful(numbers, chances)
    assert set(found[:3]) == set(planted)
    assert chances[planted].argmax(axis=1).tolist() == [0, 1, 2]
    assert len(found) <= 6


def test_right_labels_are_hardly_doubted():
    features, numbers = clusters(spread=0.5)
    assert len(labels.doubtful(numbers, labels.probabilities(features, numbers, alone(90), 3))) == 0


def test_the_answers_are_probabilities_and_the_same_every_time():
    features, numbers = clusters(spread=3)
    chances = labels.probabilities(features, numbers, alone(90), 4)  # of a fourth class there is no photo
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances[:, 3] == 0).all()
    assert (labels.probabilities(features, numbers, alone(90), 4) == chances).all()


def test_no_photo_is_judged_by_a_model_that_saw_it_or_its_like():
    """A mislabelled picture with copies of the same wrong label would vouch for itself."""
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


@pytest.mark.parametrize("few", [1, 2, 3, 4])
def test_a_class_of_few_photos_is_judged_only_by_models_that_know_it(few):
    features, numbers = clusters((30, 30, few))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chances = labels.probabilities(features, numbers, alone(60 + few), 3)
        found = labels.doubtful(numbers, chances)
    unjudged = np.isnan(chances).any(axis=1)
    assert not unjudged[:60].any()
    assert unjudged[60:].all() if few == 1 else not unjudged[60:].all()
    assert not set(found) & set(np.flatnonzero(unjudged))


def test_too_little_to_cross_validate_is_judged_not_at_all():
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
