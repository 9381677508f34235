"""Two classifiers on the same images, compared with statsmodels' test and a bootstrap written out."""

import time

import numpy as np
import pytest
import written_out
from statsmodels.stats.contingency_tables import mcnemar as exact

from flowers.metrics import classification, paired


def models(n_classes=4, images=200, seed=0, sharpness=(1.0, 1.6)):
    """Labels and the probabilities of two classifiers with similar errors, fewer in the second one."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=images - n_classes)])
    common = rng.normal(size=(images, n_classes))
    found = []
    for strength in sharpness:
        logits = common + 0.6 * rng.normal(size=common.shape)
        logits[np.arange(images), labels] += strength
        exponents = np.exp(logits)
        found.append(exponents / exponents.sum(axis=1, keepdims=True))
    return labels, *found


@pytest.mark.parametrize("seed", range(3))
def test_mcnemar_equals_that_of_statsmodels(seed):
    labels, one, other = models(seed=seed, sharpness=(1.0, 1.0 + 0.2 * seed))
    test = paired.mcnemar(labels, one.argmax(axis=1), other.argmax(axis=1))
    right, now = one.argmax(axis=1) == labels, other.argmax(axis=1) == labels
    table = [[(right & now).sum(), (right & ~now).sum()], [(~right & now).sum(), (~right & ~now).sum()]]
    assert (test.lost, test.gained) == (table[0][1], table[1][0])
    assert test.p == pytest.approx(exact(table, exact=True).pvalue)


def test_mcnemar_of_equal_predictions_is_one():
    labels = np.array([0, 1, 1])
    assert paired.mcnemar(labels, labels, labels) == paired.McNemar(0, 0, 1.0)


def test_can_show_is_true_where_the_most_uneven_counts_are_significant():
    for discordant in range(12):
        labels = np.zeros(discordant + 1, dtype=int)
        test = paired.mcnemar(labels, np.r_[np.ones(discordant, int), 0], labels)
        assert (test.p < paired.LEVEL) == paired.can_show(discordant), discordant


def test_the_interval_of_an_accuracy_difference_is_that_of_four_enlarged_counts():
    halves = [601, 7, 17, 101]  # twice 300, 3, 8 and 50 images, each enlarged by half an image
    one, other = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], halves, axis=0).T
    low, high = paired.accuracy_interval(paired.McNemar(3, 8, 1.0), 361)
    width = 2 * 1.959964 * np.std(other - one) / np.sqrt(363)
    assert (low + high) / 2 == pytest.approx(5 / 363) and high - low == pytest.approx(width, rel=1e-3)


def test_the_interval_covers_the_true_difference():
    rng, images, shares = np.random.default_rng(0), 45, [0.8, 0.04, 0.1, 0.06]
    drawn = rng.multinomial(images, shares, size=4000)
    ends = [paired.accuracy_interval(paired.McNemar(lost, gained, 1.0), images) for _, lost, gained, _ in drawn]
    assert 0.94 < np.mean([low <= 0.06 <= high for low, high in ends]) < 0.98


@pytest.mark.parametrize(("images", "discordant"), [(45, 0.0), (45, 0.23), (300, 0.1), (2000, 0.05)])
def test_a_detectable_difference_is_significant_in_about_four_of_five_samples(images, discordant):
    difference = paired.detectable(images, discordant)
    share = max(discordant, difference)
    odds = [(share - difference) / 2, (share + difference) / 2, 1 - share]
    drawn = np.random.default_rng(0).multinomial(images, odds, size=3000)
    labels, found = np.zeros(images, int), {}
    for lost, gained, _ in {tuple(row) for row in drawn}:
        one, other = (np.zeros(images, int) for _ in range(2))
        other[:lost] = one[lost : lost + gained] = 1
        found[lost, gained] = paired.mcnemar(labels, one, other).p < paired.LEVEL
    power = np.mean([found[lost, gained] for lost, gained, _ in drawn])
    assert 0.68 < power < 0.86  # the exact test is somewhat cautious with few images


def test_detectable_differences_shrink_with_images_and_grow_with_disagreement():
    assert paired.detectable(3, 0.0) == 1.0  # nothing can be shown
    assert paired.detectable(45, 0.5) > paired.detectable(45, 0.1) > paired.detectable(450, 0.1)
    assert paired.detectable(45, 0.1, level=0.01) > paired.detectable(45, 0.1)
    assert paired.independent(0.9) == pytest.approx(0.18)


def slow(labels, one, other, samples, seed):
    """The definition: the same images for both, drawn within each class."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(samples):
        weights = written_out.resample(labels, rng)
        first, second = (written_out.scores(labels, each, weights) for each in (one, other))
        drawn.append({name: second[name] - first[name] for name in first})
    return {name: np.quantile([each[name] for each in drawn], (0.025, 0.975)) for name in drawn[0]}


def test_intervals_of_differences_equal_those_of_a_paired_bootstrap_written_out():
    labels, one, other = models(n_classes=6, images=150)
    expected = slow(labels, one, other, 1000, seed=1)
    found = paired.differences(labels, one, other, samples=20_000, seed=2)
    assert list(found) == list(expected)
    for name, difference in found.items():
        width = expected[name][1] - expected[name][0]
        assert abs(difference.low - expected[name][0]) < 0.12 * width, name
        assert abs(difference.high - expected[name][1]) < 0.12 * width, name
        assert difference.value == classification.scores(labels, other)[name] - classification.scores(labels, one)[name]


def test_pairing_makes_the_interval_narrow():
    """One image of 200 differs; unpaired, the interval would be that of two test sets."""
    labels, one, _ = models()
    other = one.copy()
    wrong = np.flatnonzero(one.argmax(axis=1) != labels)[0]
    other[wrong] = np.eye(4)[labels[wrong]]
    accuracy = paired.differences(labels, one, other)["accuracy"]
    assert accuracy.low == 0 and accuracy.high <= 4 / 200


def test_the_reversed_difference_has_the_other_sign():
    labels, one, other = models()
    there, back = paired.differences(labels, one, other), paired.differences(labels, other, one)
    for name, found in there.items():
        assert (back[name].low, back[name].high) == pytest.approx((-found.high, -found.low)), name


def test_probabilities_of_other_classes_raise_an_error():
    labels, one, other = models()
    with pytest.raises(ValueError, match="the same images and classes"):
        paired.differences(labels, one, other[:, :3])


def test_ten_thousand_samples_of_two_models_are_quick():
    labels, one, other = models(n_classes=102, images=6149, sharpness=(5.0, 5.5))
    start = time.process_time()
    paired.differences(labels, one, other)
    assert time.process_time() - start < 8  # 1.3 s on a free machine


def test_classes_are_sorted_from_the_best_gain_to_the_worst_loss():
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    one = np.array([0, 0, 0, 1, 0, 0, 3, 3])
    other = np.array([0, 1, 1, 1, 2, 2, 3, 3])
    table = paired.per_class(labels, one == labels, other == labels, ["aster", "daisy", "iris", "rose"])
    assert table["class"].tolist() == ["iris", "daisy", "aster"]
    assert table["change"].tolist() == [1.0, 0.5, -0.5]
    assert table[["photos", "one", "other"]].to_numpy().tolist() == [[2, 0, 2], [2, 1, 2], [2, 2, 1]]
