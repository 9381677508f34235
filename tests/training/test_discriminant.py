"""A linear head by linear discriminant analysis."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from flowers.metrics.classification import softmax
from flowers.training import discriminant


@pytest.fixture
def sample():
    """Four classes that overlap, two views of an image in a row: features (240, 30), labels, weights."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.permutation(np.repeat(np.arange(4, dtype=np.int32), [60, 30, 20, 10])), 2)
    scales = random.uniform(0.5, 2, (30, 30))
    features = random.normal(size=(240, 30)) @ scales / 6 + 0.6 * np.eye(30)[labels] + 5
    return features.astype(np.float32), labels, np.ones(240, np.float32)


def test_the_directions_are_those_of_a_shrunk_analysis(sample):
    features, labels, _ = sample
    kernel, bias = discriminant.fit(*sample, 4, views=2)
    assert kernel.dtype == bias.dtype == np.float32 and kernel.shape == (30, 4) and bias.shape == (4,)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=discriminant.SHRINKAGE).fit(features, labels)
    found, wanted = features @ kernel + bias, reference.decision_function(features)
    priors = np.log(reference.priors_)
    found, wanted = found - priors, wanted - priors  # without priors they differ by one factor
    found, wanted = (values - values.mean(axis=1, keepdims=True) for values in (found, wanted))
    factor = (found * wanted).sum() / np.square(wanted).sum()
    np.testing.assert_allclose(found, factor * wanted, atol=2e-3)


def test_the_probabilities_are_calibrated_without_validation_images():
    random = np.random.default_rng(1)
    labels = random.integers(0, 5, 2000).astype(np.int32)
    features = (random.normal(size=(2000, 400)) + 1.2 * np.eye(400)[labels]).astype(np.float32)
    seen, unseen = np.arange(300), np.arange(300, 2000)  # fewer images than features
    kernel, bias = discriminant.fit(features[seen], labels[seen], np.ones(300, np.float32), 5)
    probabilities = softmax(features[unseen] @ kernel + bias)
    accuracy = (probabilities.argmax(axis=1) == labels[unseen]).mean()
    assert accuracy > 0.3 and abs(probabilities.max(axis=1).mean() - accuracy) < 0.06


def test_weights_decide_the_priors(sample):
    features, labels, weights = sample
    equal = 1 / np.bincount(labels)[labels].astype(np.float32)
    one, other = (discriminant.fit(features, labels, weights, 4, 2)[1] for weights in (weights, equal))
    assert np.argmax(one - other) == 0 and np.argmin(one - other) == 3  # the largest and the smallest class


def test_classes_without_examples_are_never_predicted(sample):
    features, labels, weights = sample
    kernel, bias = discriminant.fit(features, 2 * labels, weights, 8, views=2)
    predicted = (features @ kernel + bias).argmax(axis=1)
    assert set(predicted) <= {0, 2, 4, 6} and (predicted == 2 * labels).mean() > 0.5
    elsewhere = 100 * np.random.default_rng(2).normal(size=(50, 30)).astype(np.float32)  # far from all means
    assert set((elsewhere @ kernel + bias).argmax(axis=1)) <= {0, 2, 4, 6}


def test_an_image_between_two_classes_is_in_doubt_even_if_all_are_separable():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int32), 40)
    features = (random.normal(size=(80, 5)) + 40 * np.eye(5)[labels]).astype(np.float32)
    kernel, bias = discriminant.fit(features, labels, np.ones(80, np.float32), 2)
    between = features.mean(axis=0) + random.normal(size=(200, 5)).astype(np.float32) / 50
    assert np.median(softmax(between @ kernel + bias).max(axis=1)) < 0.9


def test_the_bits_do_not_depend_on_the_number_of_threads(sample):
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        one = discriminant.fit(*sample, 4, views=2)
    with threadpool_limits(2):
        other = discriminant.fit(*sample, 4, views=2)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_image_of_each_class_suffices():
    features = np.eye(3, 8, dtype=np.float32)
    kernel, bias = discriminant.fit(features, np.arange(3, dtype=np.int32), np.ones(3, np.float32), 3)
    logits = features @ kernel + bias
    assert np.abs(logits).max() < 100 and list(logits.argmax(axis=1)) == [0, 1, 2]


def test_equal_examples_of_a_class_give_numbers():
    features = np.repeat(np.eye(3, 8, dtype=np.float32), 5, axis=0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 5)
    kernel, bias = discriminant.fit(features, labels, np.ones(15, np.float32), 3)
    logits = features @ kernel + bias
    assert np.abs(logits).max() < 1000 and np.array_equal(logits.argmax(axis=1), labels)
