"""Calibration, compared with written-out definitions and a known temperature."""

import tracemalloc

import numpy as np
import pytest
from reporting_world import world

from flowers.metrics import calibration, classification


def sampled(images=20_000, seed=0):
    """Calibrated probabilities: every label is drawn from its own row."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.3] * 4, images)
    labels = (probabilities.cumsum(axis=1) < rng.random((images, 1))).sum(axis=1)
    return labels.clip(0, 3), probabilities


@pytest.mark.parametrize("known", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(known):
    labels, probabilities = sampled()
    distorted = calibration.scaled(probabilities, 1 / known)
    assert calibration.temperature(labels, distorted) == pytest.approx(known, rel=0.05)


def test_the_temperature_minimises_loss_and_prior():
    labels, probabilities = world(5, 400, sharpness=1.0)
    found = calibration.temperature(labels, probabilities)

    def loss(temperature):
        right = calibration.scaled(probabilities, temperature)[np.arange(len(labels)), labels]
        return -np.log(right).sum() + np.log(temperature) ** 2 / (2 * 0.5**2)

    assert loss(found) <= min(loss(found * 0.98), loss(found * 1.02), loss(1.0))


def test_the_prior_keeps_the_temperature_near_one_for_few_images():
    def found(images):
        return calibration.temperature(np.zeros(images, int), np.full((images, 3), [0.9, 0.08, 0.02]))

    assert 0.6 < found(5) < 1
    assert calibration.BOUNDS[0] <= found(20_000) < 0.25


def test_without_right_predictions_the_temperature_is_high_and_within_its_bounds():
    found = calibration.temperature(np.full(2000, 2), np.full((2000, 3), [0.98, 0.01, 0.01]))
    assert 5 < found <= calibration.BOUNDS[1]


@pytest.mark.parametrize(
    ("confidence", "right", "found"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1], 0.6),  # below all of them
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 0], 0.7),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0], 1.0),
        ([0.9, 0.8, 0.7, 0.7], [1, 1, 1, 0], 0.8),  # equal ones are on the same side
        ([0.5 + number / 100 for number in range(40)], [0] + [1] * 39, 0.5),  # one in forty may be wrong
        ([0.99, 0.9, 0.8, 0.7], [0, 1, 1, 1], 1.0),
    ],
)
def test_the_threshold_is_the_lowest_probability_above_which_predictions_are_right(confidence, right, found):
    first = np.array(confidence)
    probabilities = np.stack([first, 1 - first], axis=1)
    labels = np.where(np.array(right) == 1, 0, 1)
    assert calibration.threshold(labels, probabilities) == pytest.approx(found, abs=1e-4)
    assert calibration.threshold(labels, probabilities) <= found


def test_a_threshold_separates_probabilities_close_to_one():
    first = np.array([0.99999] * 19 + [0.99992] * 10)
    labels = np.array([0] * 19 + [1] * 10)
    assert 0.99992 < calibration.threshold(labels, np.stack([first, 1 - first], axis=1)) < 0.99999


def test_scaling_keeps_predictions_and_scaling_by_one_keeps_probabilities():
    _, probabilities = world(7, 300)
    np.testing.assert_allclose(calibration.scaled(probabilities, 1.0), probabilities, rtol=1e-5)
    for temperature in (0.1, 0.7, 3.0):
        found = calibration.scaled(probabilities, temperature)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert np.array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))
        surer = found.max(axis=1) > probabilities.max(axis=1)
        assert surer.all() if temperature < 1 else not surer.any()


def test_scaling_a_probability_of_zero_is_finite():
    found = calibration.scaled(np.array([[1.0, 0.0, 0.0]], np.float32), 2.0)
    assert np.isfinite(found).all() and found[0].argmax() == 0


def slow_error(labels, probabilities, bins):
    """Guo et al., equation 3, image by image."""
    error, confidence = 0.0, probabilities.max(axis=1).astype(np.float64)
    for number in range(bins):
        last = number == bins - 1
        own = [n for n, c in enumerate(confidence) if number <= c * bins < number + 1 or (last and c == 1)]
        if own:
            right = sum(probabilities[n].argmax() == labels[n] for n in own) / len(own)
            error += len(own) / len(labels) * abs(right - sum(confidence[n] for n in own) / len(own))
    return error


@pytest.mark.parametrize("bins", [1, 15])
def test_the_expected_calibration_error_is_that_of_the_paper(bins):
    labels, probabilities = world(5, 400, sharpness=2.0)
    found = calibration.expected_calibration_error(labels, probabilities, bins)
    assert found == pytest.approx(slow_error(labels, probabilities, bins))
    assert found > 0.01


def test_certain_predictions_have_an_error_of_zero_or_one():
    certain = np.eye(3)
    assert calibration.expected_calibration_error(np.array([0, 1, 2]), certain) == 0
    assert calibration.expected_calibration_error(np.array([1, 2, 0]), certain) == 1


def test_every_image_is_in_one_bin_and_empty_bins_are_left_out():
    labels, probabilities = world(3, 500)
    table = calibration.reliability(labels, probabilities, bins=10)
    assert table["photos"].sum() == 500 and (table["photos"] > 0).all()
    assert table["low"].min() >= 0.3  # the most probable of three classes has at least a third
    assert (table["confidence"] >= table["low"]).all() and (table["confidence"] <= table["high"]).all()
    np.testing.assert_allclose(table["high"] - table["low"], 0.1)
    right = probabilities.argmax(axis=1) == labels
    assert (table["accuracy"] * table["photos"]).sum() == pytest.approx(right.sum())


def test_calibrated_probabilities_have_a_small_error_and_a_temperature_corrects_others():
    labels, probabilities = sampled()
    assert calibration.expected_calibration_error(labels, probabilities) < 0.02
    bad = calibration.scaled(probabilities, 0.4)
    corrected = calibration.scaled(bad, calibration.temperature(labels, bad))
    error = calibration.expected_calibration_error
    assert error(labels, bad) > 0.05 > 0.02 > error(labels, corrected)


def test_invalid_probabilities_raise_an_error():
    for measure in (calibration.temperature, calibration.threshold, calibration.reliability):
        with pytest.raises(ValueError, match="not a finite number"):
            measure(np.array([0, 1]), np.full((2, 3), np.nan))


@pytest.mark.parametrize("work", [lambda values: calibration.scaled(values, 0.8), classification.softmax])
def test_one_copy_of_the_probabilities_is_held_in_float64(work):
    values = world(500, 1000)[1]
    tracemalloc.start()
    work(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.7 * values.size * 8  # the result of softmax is a float32 copy
