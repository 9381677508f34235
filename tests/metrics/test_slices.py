"""Accuracy by slice: the groups and their intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest

from flowers.metrics import slices


def spans(values):
    table = slices.accuracy(np.array(values), np.ones(len(values), bool))
    return list(zip(table["low"], table["high"], table["photos"], strict=True))


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([5, 1, 3, 2, 6, 4], [(1, 2, 2), (3, 4, 2), (5, 6, 2)]),
        ([10, 20, 10, 30], [(10, 10, 2), (20, 20, 1), (30, 30, 1)]),  # up to three values are groups of their own
        ([1, 2, 3, 9, 9, 9, 9, 9, 9, 9], [(1, 3, 3), (9, 9, 7)]),  # equal values stay together
        ([1, 1, 1, 1, 1, 1, 1, 2, 3, 4], [(1, 1, 7), (2, 4, 3)]),
    ],
)
def test_images_with_equal_values_stay_together_in_groups_of_about_equal_size(values, groups):
    assert spans(values) == groups


def test_a_group_has_its_accuracy_and_wilson_interval():
    random = np.random.default_rng(0)
    values, right = random.random(301), random.random(301) < 0.8
    table = slices.accuracy(values, right)
    assert table["photos"].tolist() == pytest.approx([100, 100, 100], abs=1) and table["photos"].sum() == 301
    for _, row in table.iterrows():
        own = right[(values >= row["low"]) & (values <= row["high"])]
        expected = binomtest(int(own.sum()), len(own)).proportion_ci(method="wilson")
        assert row["accuracy"] == own.mean()
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((expected.low, expected.high))
