"""A linear head by logistic regression on cached features, which takes seconds where epochs take minutes."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from flowers.model import backend
from flowers.training.epochs import TrainingSet

if TYPE_CHECKING:
    import keras

_ITERATIONS = 300  # more of them change no prediction
_NEVER = -30.0  # bias of a class without examples


def initialize(head: "keras.Model", training: TrainingSet, penalty: float) -> None:
    """Set kernel and bias of a head without hidden layers by a regression on all views of the training images."""
    views = training.views.shape[1]
    features = np.asarray(training.examples[training.views.ravel()], np.float32)[:, -head.input_shape[1] :]
    logits = head.get_layer("head_logits")
    if logits.input is not head.input:  # apply the normalization before the kernel
        features = backend.keras().Model(head.input, logits.input).predict_on_batch(features)
    labels, weights = np.repeat(training.labels, views), np.repeat(training.weights, views)
    kernel, bias = fit(features, labels, weights, logits.units, penalty)
    logits.kernel.assign(kernel)
    logits.bias.assign(bias)


def fit(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias (classes,), float32, of a multinomial logistic regression.

    `features` (n, features) float32; `labels` (n,), of at least two classes; `weights` (n,). Minimises the mean
    weighted log-loss plus `penalty`/2 times the sum of the kernel's squares. Classes without examples are never
    predicted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(labels)
    # For two classes scikit-learn fits the difference of the kernels, whose square is twice the sum of their squares.
    strength = penalty / 2 if len(seen) == 2 else penalty
    model = LogisticRegression(C=1 / (strength * len(labels)), max_iter=_ITERATIONS)
    # One thread, so that the bits do not depend on the number of threads.
    with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels, weights)
    halves = np.array([[-0.5], [0.5]]) if len(seen) == 2 else np.eye(len(seen))
    kernel = np.zeros((features.shape[1], classes), np.float32)
    bias = np.full(classes, _NEVER, np.float32)
    kernel[:, seen], bias[seen] = (halves @ model.coef_).T, halves @ model.intercept_
    return kernel, bias
