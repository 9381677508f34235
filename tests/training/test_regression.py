"""A linear head by regression."""

import numpy as np
import pytest

from flowers.config.params import HeadParams
from flowers.metrics.classification import softmax
from flowers.model import backend, keras_model
from flowers.training import discriminant, linear_head, regression
from flowers.training.epochs import TrainingSet

PENALTY = 0.02


@pytest.fixture
def sample():
    """Ninety examples of three classes that overlap: features (90, 2048), labels, and weights that differ."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 30)
    features = random.normal(size=(90, 2048)).astype(np.float32)
    features[:, :3] += 2 * np.eye(3, dtype=np.float32)[labels]
    return np.abs(features), labels, random.uniform(0.5, 1.5, 90).astype(np.float32)


def assert_minimum(features, labels, weights, kernel, bias):
    """Assert that the gradient of the objective is small compared with that at a kernel of zeros."""

    def gradient(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        surplus = softmax(features @ kernel + bias) - np.eye(len(bias))[labels]
        surplus *= weights[:, None] / weights.sum()
        return features.T @ surplus + PENALTY * kernel, surplus.sum(axis=0)

    (of_kernel, of_bias), (before, _) = gradient(kernel, bias), gradient(np.zeros_like(kernel), np.zeros_like(bias))
    assert np.abs(of_kernel).max() < 0.02 * np.abs(before).max() and np.abs(of_bias).max() < 2e-3


def test_penalised_weighted_log_loss_is_at_its_minimum(sample):
    kernel, bias = regression.fit(*sample, 3, PENALTY)
    assert kernel.dtype == bias.dtype == np.float32
    assert_minimum(*sample, kernel, bias)


@pytest.mark.parametrize("initialization", ["regression", "lda"])
@pytest.mark.parametrize("normalization", ["none", "root"])
def test_a_head_is_initialized_from_all_views(sample, normalization, initialization):
    features, labels, weights = sample
    views = np.arange(90).reshape(45, 2)[::-1]  # two rows of features per image, in another order
    data = TrainingSet(features, views, labels[views[:, 0]], weights[:45])
    head = keras_model.head(3, (), 0.0, 0, normalization)
    shape = {"units": (), "dropout": 0.0, "features": "conv5", "normalization": normalization, "penalty": PENALTY}
    linear_head.initialize(head, data, HeadParams(**shape, initialization=initialization))

    normalized = features if normalization == "none" else np.sqrt(features / features.mean(axis=1, keepdims=True))
    rows = views.ravel()
    kernel, bias = (np.asarray(variable) for variable in head.get_layer("head_logits").weights)
    examples = normalized[rows], labels[rows], np.repeat(weights[:45], 2), 3
    fitted = regression.fit(*examples, PENALTY) if initialization == "regression" else discriminant.fit(*examples, 2)
    np.testing.assert_allclose(kernel, fitted[0], atol=0.01 * np.abs(fitted[0]).max())
    found = np.asarray(head(features, training=False))
    np.testing.assert_allclose(found, normalized @ kernel + bias, atol=1e-4)


def test_two_classes_minimise_the_same_objective(sample):
    features, labels, weights = (values[:60] for values in sample)
    kernel, bias = regression.fit(features, labels, weights, 2, PENALTY)
    assert kernel.shape == (2048, 2)
    assert_minimum(features, labels, weights, kernel, bias)


def test_the_penalty_on_two_classes_is_exact(sample):
    """At the minimum the gradient of the log-loss is that of the penalty: a large one shows a wrong factor."""
    features, labels, weights = (values[:60] for values in sample)
    kernel, bias = regression.fit(features, labels, weights, 2, penalty=2.0)
    probabilities = softmax(features @ kernel + bias)
    surplus = (probabilities - np.eye(2)[labels]) * weights[:, None] / len(labels)
    np.testing.assert_allclose(kernel, -(features.T @ surplus) / 2.0, atol=0.02 * np.abs(kernel).max())


def test_a_class_without_examples_is_never_predicted(sample):
    features, labels, weights = sample
    kernel, bias = regression.fit(features, labels * 2, weights, 6, PENALTY)
    probabilities = softmax(features @ kernel + bias)
    assert (probabilities.argmax(axis=1) == labels * 2).mean() > 0.9
    assert probabilities[:, [1, 3, 5]].max() < 1e-6


def test_the_root_of_zero_features_has_a_finite_gradient():
    tf = backend.tensorflow()
    head = keras_model.head(3, (), 0.0, 0, "root")
    for features in (tf.zeros((2, 2048)), tf.one_hot([3, 5], 2048)):
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(head(features) ** 2)
        assert np.isfinite(total.numpy()) and np.isfinite(tape.gradient(total, features).numpy()).all()
