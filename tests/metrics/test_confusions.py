"""Which mistakes come first."""

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


def test_the_surest_mistakes_come_first_and_of_equals_the_earlier():
    assert confusions.surest(LABELS, PROBABILITIES).tolist() == [3, 1, 0, 5]


def test_pairs_are_ordered_by_their_photos_then_by_the_surest_and_never_mix_directions():
    pairs = [(pair.label, pair.predicted, pair.rows.tolist()) for pair in confusions.pairs(LABELS, PROBABILITIES)]
    assert pairs == [(0, 1, [1, 0]), (1, 2, [3]), (2, 0, [5])]


def test_where_all_is_right_there_are_none():
    labels = PROBABILITIES.argmax(axis=1)
    assert confusions.surest(labels, PROBABILITIES).tolist() == [] == confusions.pairs(labels, PROBABILITIES)
