"""A linear head by logistic regression."""

import warnings

import numpy as np
from threadpoolctl import threadpool_limits

_ITERATIONS = 300  # more of them change no prediction
_NEVER = -30.0  # bias of a class without examples


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
