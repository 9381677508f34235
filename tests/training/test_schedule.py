"""The learning rates of a phase."""

import numpy as np
import pytest
from schedules import schedule


def rates(epochs: int, steps: int, shape: str, warmup_epochs: float) -> np.ndarray:
    """The rates of all steps of a phase with a highest rate of 0.01."""
    phase = schedule(epochs=epochs, learning_rate=0.01, schedule=shape, warmup_epochs=warmup_epochs)
    return np.concatenate([phase.rates(epoch, steps) for epoch in range(epochs)])


def test_a_constant_rate_does_not_change():
    assert rates(3, 4, "constant", 0) == pytest.approx([0.01] * 12)


def test_a_warm_up_rises_linearly_to_the_rate():
    assert rates(3, 4, "constant", 1) == pytest.approx([0.002, 0.004, 0.006, 0.008, *[0.01] * 8])
    assert rates(2, 4, "constant", 0.5) == pytest.approx([0.01 / 3, 0.02 / 3, *[0.01] * 6])


def test_a_cosine_falls_from_the_rate_to_zero():
    found = rates(4, 10, "cosine", 0)
    assert found[0] == pytest.approx(0.01) and found[20] == pytest.approx(0.005)  # half of the way
    assert found[10] == pytest.approx(0.01 * (1 + np.cos(np.pi / 4)) / 2)
    assert (np.diff(found) < 0).all() and 0 < found[-1] < 1e-4


def test_a_cosine_starts_after_the_warm_up():
    found = rates(4, 10, "cosine", 2)
    assert found[20] == pytest.approx(0.01) == found.max() and found[30] == pytest.approx(0.005)
    assert (np.diff(found[:21]) > 0).all() and (np.diff(found[20:]) < 0).all()


def test_a_warm_up_may_be_longer_than_the_phase():
    assert rates(2, 2, "cosine", 5) == pytest.approx([0.01 / 11 * step for step in (1, 2, 3, 4)])
