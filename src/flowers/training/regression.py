"""A linear head by logistic regression on stored features, which needs seconds where epochs need minutes."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from flowers.model import backend
from flowers.training.epochs import TrainingSet

if TYPE_CHECKING:
    import keras

_ITERATIONS = 300  # what further ones would change decides no answer
_NEVER = -30.0  # logit of a class that was never seen


def initialize(head: "keras.Model", training: TrainingSet, penalty: float) -> None:
    """Give a head without hidden layers the kernel and bias of a regression on every view of the training photos."""
    views = training.views.shape[1]
    features = np.asarray(training.examples[training.views.ravel()], np.float32)
    logits = head.get_layer("head_logits")
    if logits.input is not head.input:  # what comes before the kernel
        features = backend.keras().Model(head.input, logits.input).predict_on_batch(features)
    labels, weights = np.repeat(training.labels, views), np.repeat(training.weights, views)
    kernel, bias = fit(features, labels, weights, logits.units, penalty)
    logits.kernel.assign(kernel)
    logits.bias.assign(bias)


def fit(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias (classes,), float32, of a multinomial logistic regression.

    `features` (n, features) float32; `labels` (n,) below `classes`, two of them at least; `weights` (n,). What is made
    least is the mean of the weighed log-losses and `penalty`/2 times the sum of the kernel's squares. A class without
    an example is given no chance.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(labels)
    # Of two classes scikit-learn fits the difference alone, whose square is twice that of both kernels together.
    strength = penalty / 2 if len(seen) == 2 else penalty
    model = LogisticRegression(C=1 / (strength * len(labels)), max_iter=_ITERATIONS)
    # One thread, so that the bits do not depend on how many there are.
    with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels, weights)
    halves = np.array([[-0.5], [0.5]]) if len(seen) == 2 else np.eye(len(seen))
    kernel = np.zeros((features.shape[1], classes), np.float32)
    bias = np.full(classes, _NEVER, np.float32)
    kernel[:, seen], bias[seen] = (halves @ model.coef_).T, halves @ model.intercept_
    return kernel, bias
