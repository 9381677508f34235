"""A linear head by linear discriminant analysis (LDA), in closed form."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Share of the covariance that its mean variance replaces. By cross-validation on photos of 89 classes; values from 0.4
# to 0.8 differ by less than half a point.
SHRINKAGE = 0.6
FOLDS = 5  # of the cross-validation that gives the scale of the logits
_BLOCK = 4096  # rows
_NEVER = -1e6  # bias of a class without examples, below all logits
_USUAL_SCALE = 0.05  # of the logits, where no class has two images
_SMALLEST_WITHIN = 1e-2  # variance within classes, as a share of all: images that are all equal have none


def fit(
    features: NDArray[np.float32], labels: NDArray[np.int32], weights: NDArray[np.float32], classes: int, views: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (features, classes) and bias (classes,), float32, of a linear discriminant analysis.

    `features` (n, features) float32, of at least two classes, each image's `views` in a row; `labels` (n,); `weights`
    (n,), which decide the classes' priors. All classes share one covariance, which is shrunk towards a multiple of the
    identity. Its inverse makes the logits too large (there are more features than images), so they are scaled by the
    factor up to 1 with the lowest log-loss in a cross-validation over images. Near-duplicates among them make it too
    large. Classes without examples are never predicted.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):  # the bits do not depend on the number of threads
        folds = _folds(labels[::views]).repeat(views)
        centre = features.mean(axis=0, dtype=np.float64)
        parts = [_Moments.of(features, labels, classes, centre, folds == fold) for fold in range(FOLDS)]
        whole = reduce(_Moments.__add__, parts)
        kernel, bias = whole.solved()
        prior = np.log(np.maximum(np.bincount(labels, weights, classes), 1e-12) / weights.sum())
        logits = np.empty((len(labels), classes))
        for fold, part in enumerate(parts):
            without, rows = whole - part, folds == fold
            of_fold, offset = without.solved()
            found = features[rows] @ of_fold.astype(np.float32) + (offset - centre @ of_fold)
            logits[rows] = np.where(without.counts > 0, found, -np.inf)
    scale = _scale(logits, labels, weights, prior)
    kernel, bias = scale * kernel, scale * (bias - centre @ kernel) + prior
    present = whole.counts > 0  # a softmax does not change if all its logits do by the same number
    kernel, bias = kernel - kernel[:, present].mean(axis=1, keepdims=True), bias - bias[present].mean()
    kernel[:, ~present], bias[~present] = 0, _NEVER
    return kernel.astype(np.float32), bias.astype(np.float32)


def _folds(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """The number of a fold for each image, (images,): those of each class are spread over all folds."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS
    return folds


@dataclass(frozen=True)
class _Moments:
    """Sums over examples, of which those of several groups can be added and subtracted."""

    scatter: Array  # of x x', (features, features)
    sums: Array  # of x by class, (classes, features)
    counts: Array  # of examples by class, (classes,)

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        labels: NDArray[np.int32],
        classes: int,
        centre: Array,
        chosen: NDArray[np.bool_],
    ) -> "_Moments":
        rows, width = np.flatnonzero(chosen), features.shape[1]
        scatter, sums = np.zeros((width, width)), np.zeros((classes, width))
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            values = features[block] - centre
            scatter += values.T @ values
            sums += (labels[block] == np.arange(classes)[:, None]).astype(np.float64) @ values
        return cls(scatter, sums, np.bincount(labels[rows], minlength=classes).astype(np.float64))

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.scatter + other.scatter, self.sums + other.sums, self.counts + other.counts)

    def __sub__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.scatter - other.scatter, self.sums - other.sums, self.counts - other.counts)

    def solved(self) -> tuple[Array, Array]:
        """Kernel (features, classes) and bias (classes,) of equal priors, for centred features."""
        from scipy.linalg import solve

        means, images = self.sums / np.maximum(self.counts, 1)[:, None], max(self.counts.sum(), 1)
        covariance = (self.scatter - (means.T * self.counts) @ means) / images
        total = max(np.trace(self.scatter) / images, 1e-12)
        variance = max(np.trace(covariance), _SMALLEST_WITHIN * total) / len(covariance)
        covariance *= 1 - SHRINKAGE
        covariance[np.diag_indices_from(covariance)] += SHRINKAGE * variance
        kernel = solve(covariance, means.T, assume_a="pos", overwrite_a=True)
        return kernel, -np.einsum("fc,cf->c", kernel, means) / 2


def _scale(logits: Array, labels: NDArray[np.int32], weights: NDArray[np.float32], prior: Array) -> float:
    """The factor of logits (n, classes) with the lowest log-loss; rows whose own class has none are left out."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = logits[np.arange(len(labels)), labels]
    known = np.isfinite(own)
    if not known.any():
        return _USUAL_SCALE
    own, logits, weights, labels = own[known], logits[known], weights[known], labels[known]

    def loss(log_scale: float) -> float:
        scale = np.exp(log_scale)
        return float(weights @ (logsumexp(scale * logits + prior, axis=1) - scale * own - prior[labels]))

    # With the factor 1 the logits are those of the fitted normal distributions.
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-4), 0), method="bounded").x))
