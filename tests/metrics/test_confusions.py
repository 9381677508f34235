"""The order of wrong predictions and of confused pairs."""

import numpy as np

from flowers.metrics import confusions

LABELS = np.array([0, 0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.2, 0.7, 0.1],  # 0 for 1
        [0.1, 0.8, 0.1],  # 0 for 1
        [0.9, 0.1, 0.0],
        [0.0, 0.05, 0.95],  # 1 for 2
        [0.1, 0.5, 0.4],
        [0.7, 0.1, 0.2],  # 2 for 0
        [0.3, 0.3, 0.4],
    ]
)


def test_wrong_predictions_are_ordered_by_probability():
    assert confusions.surest(LABELS, PROBABILITIES).tolist() == [3, 1, 0, 5]


def test_pairs_are_directed_and_ordered_by_count_then_probability():
    pairs = [(pair.label, pair.predicted, pair.rows.tolist()) for pair in confusions.pairs(LABELS, PROBABILITIES)]
    assert pairs == [(0, 1, [1, 0]), (1, 2, [3]), (2, 0, [5])]


def test_right_predictions_give_no_pairs():
    labels = PROBABILITIES.argmax(axis=1)
    assert confusions.surest(labels, PROBABILITIES).tolist() == [] == confusions.pairs(labels, PROBABILITIES)
