"""How foreign an image is: the likelihood of its features under the known classes against that of a class never seen.

The model is probabilistic linear discriminant analysis (Ioffe, "Probabilistic Linear Discriminant Analysis", ECCV 2006)
in its two-covariance form: each class has a mean, drawn from a normal distribution between classes, and its images
scatter around it with one covariance. For few images a class it is the principled form of the relative Mahalanobis
distance (Ren et al., arXiv 2106.09022; Mueller and Hein, arXiv 2505.18032): a mean of few images counts less.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

DIRECTIONS = 512  # principal components that are kept, at most
ISOTROPIC = 0.8  # share of the variance between classes that is equal in all directions: new classes may differ in any
WITHIN = 0.99  # share of known images within the limit of the distance
BEYOND = 100  # nats by which an image at twice this limit is lowered: more than ratios differ
LEFT_OUT = 100  # classes that `leave_out` leaves out, at most
KNOWN_IMAGES = 1000  # of the other classes that it compares each with, at most
FOLDS, HELD_OUT_IMAGES = 5, 2000  # of the cross-validation
_SMALLEST = 1e-12


class NoSpread(ValueError):
    """The training images do not show how images of one class differ."""


@dataclass(frozen=True)
class Detector:
    """Log-likelihood ratios of the classes as a quadratic function of the features' coordinates; all arrays float32."""

    stages: NDArray[np.float32]  # number of pooled features of each stage of the network, in their order
    mean: Features  # (features,)
    components: Features  # (features, d), orthonormal
    axes: Features  # (d, d): from the components to the coordinates
    offset: Features  # (d,)
    quadratic: Features  # (classes, d)
    linear: Features  # (classes, d)
    constant: Features  # (classes,); -inf for a class without training images
    limit: Features  # (): the squared distance from the components that known images keep

    def ratios(self, features: Features) -> Features:
        """Log-likelihood ratios (n, classes), in nats, of each class against a class never seen.

        `features` are (n, features or more): only the last ones are read. The ratios do not depend on the distance from
        the components, so those of an image beyond the limit are lowered.
        """
        projected, distances = self._projected(features)
        at = projected @ self.axes - self.offset
        excess = np.maximum(distances / np.maximum(self.limit, _SMALLEST) - 1, 0)
        found = (at * at) @ self.quadratic.T + at @ self.linear.T + self.constant - BEYOND * excess[:, None]
        return np.asarray(found, np.float32)

    def distances(self, features: Features) -> Features:
        """The squared distances (n,) of the normalised features from the components."""
        return self._projected(features)[1]

    def limited(self, distances: Features) -> "Detector":
        """The detector with the limit that 99 % of these known images keep."""
        return replace(self, limit=np.array(np.quantile(distances, WITHIN), np.float32))

    def _projected(self, features: Features) -> tuple[Features, Features]:
        values = normalized(features, self.stages.astype(int)) - self.mean
        projected = np.asarray(values @ self.components, np.float32)
        outside = np.square(values).sum(axis=1) - np.square(projected).sum(axis=1)
        return projected, np.maximum(outside, 0)


@dataclass(frozen=True)
class Fit:
    """A detector, and what `leave_out` needs of the training images: coordinates (n, d) in the components, labels."""

    detector: Detector
    projected: NDArray[np.float64]
    labels: NDArray[np.int32]


def normalized(features: Features, stages: Sequence[int] | NDArray[np.int64]) -> Features:
    """The last sum(stages) features, those of each stage divided by their sum, then the square root: unit vectors."""
    found = np.maximum(features[:, -int(np.sum(stages)) :], 0, dtype=np.float32)
    for stage in np.split(found, np.cumsum(stages)[:-1], axis=1):
        stage /= np.maximum(stage.sum(axis=1, keepdims=True), _SMALLEST)
    return np.sqrt(found, out=found)


def fit(features: Features, labels: NDArray[np.int32], classes: int, stages: Sequence[int]) -> Fit:
    """Fit a detector without a limit to training images, `features` (n, sum(stages)) and `labels` (n,).

    Raises NoSpread if all images are equal, or no class has two different ones.
    """
    from sklearn.decomposition import PCA

    values = normalized(features, stages)
    count = min(DIRECTIONS, len(values) - 1, values.shape[1])
    if count < 1 or np.ptp(values, axis=0).max() < 1e-6:
        raise NoSpread("all training images are equal")
    analysis = PCA(count, svd_solver="randomized", random_state=0, copy=False)  # copy=False: may take a gigabyte
    projected = analysis.fit_transform(values).astype(np.float64)
    return Fit(
        Detector(
            stages=np.array(stages, np.float32),
            mean=analysis.mean_,
            components=np.ascontiguousarray(analysis.components_.T),
            **_quadratic(projected, labels, classes),
            limit=np.array(np.inf, np.float32),
        ),
        projected,
        labels,
    )


def _quadratic(projected: NDArray[np.float64], labels: NDArray[np.int32], classes: int) -> dict[str, Features]:
    """The arrays of a detector that depend on the labels, from coordinates (n, d) of training images."""
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf

    images = np.bincount(labels, minlength=classes)
    centre = projected.mean(axis=0)
    projected = projected - centre
    sums = np.zeros((classes, projected.shape[1]))
    np.add.at(sums, labels, projected)
    means = sums / np.maximum(images, 1)[:, None]
    residuals = projected - means[labels]
    freedom = len(projected) - np.count_nonzero(images)
    if freedom < 1 or np.square(residuals).mean() < _SMALLEST:
        raise NoSpread("no class has two different training images")
    within = ledoit_wolf(residuals, assume_centered=True)[0] * len(projected) / freedom
    total = ledoit_wolf(projected, assume_centered=True)[0]
    # Coordinates in which the variance within classes is 1 everywhere, and that between classes is diagonal.
    between, axes = eigh(total - within, within)
    between = np.maximum(between, 0)
    between = (1 - ISOTROPIC) * between + ISOTROPIC * between.mean()
    # Of a new image of a class: the posterior of the class's mean, given its training images, and the variance within.
    seen = images[:, None] * between
    mean, variance = means @ axes * seen / (seen + 1), 1 + between / (seen + 1)
    constant = 0.5 * (-np.square(mean) / variance - np.log(variance) + np.log1p(between)).sum(axis=1)
    found = {
        "axes": axes,
        "offset": centre @ axes,
        "quadratic": 0.5 / (1 + between) - 0.5 / variance,
        "linear": mean / variance,
        "constant": np.where(images > 0, constant, -np.inf),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def threshold(best: Features, rate: float) -> float:
    """The ratio that at least this share of images reaches; `best` are the largest ratios (n,) of known images."""
    return float(np.sort(best)[int(len(best) * (1 - rate) + 1e-9)])


def held_out(
    features: Features, labels: NDArray[np.int32], classes: int, stages: Sequence[int]
) -> tuple[Features, Features]:
    """Largest ratios and distances of training images, from detectors fitted without them: 5-fold cross-validation.

    It ends with the fold that makes them 2,000. Arguments and errors are those of `fit`.
    """
    from sklearn.model_selection import KFold

    found: list[NDArray[np.float32]] = []
    for kept, out in KFold(min(FOLDS, len(features)), shuffle=True, random_state=0).split(features):
        if sum(part.shape[1] for part in found) < HELD_OUT_IMAGES:
            without = fit(features[kept], labels[kept], classes, stages).detector
            found.append(np.stack([without.ratios(features[out]).max(axis=1), without.distances(features[out])]))
    best, distances = np.concatenate(found, axis=1)
    return best, distances


def leave_out(fitted: Fit, features: Features, labels: NDArray[np.int32]) -> tuple[dict[str, float], Features]:
    """How well images of each class are told from the others if it is left out of the detector.

    `features` (m, features) and `labels` (m,) are of images that are not in training. Returns the means over the
    classes of `scores`, empty with fewer than three classes, and the largest ratio of each image while its class is
    left out. 100 classes are left out at most, each compared with 1,000 images of other classes at most, both drawn at
    random. The network may have been trained on all classes.
    """
    random, found, foreign = np.random.default_rng(0), [], [np.empty(0, np.float32)]
    present = np.intersect1d(labels, fitted.labels)
    if len(present) < 3:  # two, of which one is left out, leave one: nothing is known of the variance between classes
        return {}, foreign[0]
    for left in np.sort(random.permutation(present)[:LEFT_OUT]):
        others = np.sort(random.permutation(np.flatnonzero(labels != left))[:KNOWN_IMAGES])
        rows = fitted.labels != left
        try:
            quadratic = _quadratic(fitted.projected[rows], fitted.labels[rows], len(fitted.detector.constant))
        except NoSpread:
            continue
        without = replace(fitted.detector, **quadratic)
        foreign.append(without.ratios(features[labels == left]).max(axis=1))
        found.append(scores(without.ratios(features[others]).max(axis=1), foreign[-1]))
    means = {name: float(np.mean([each[name] for each in found])) for name in (found[0] if found else ())}
    return means, np.concatenate(foreign)


def scores(known: Features, foreign: Features) -> dict[str, float]:
    """AUROC, and the false positive rate at 95 %: the share of foreign images above what 95 % of known ones reach.

    `known` (n,) and `foreign` (m,) hold a number for each image that is larger for known ones.
    """
    from sklearn.metrics import roc_auc_score

    area = roc_auc_score(np.repeat([1, 0], [len(known), len(foreign)]), np.concatenate([known, foreign]))
    return {"auroc": float(area), "fpr95": float(np.mean(foreign >= threshold(known, 0.95)))}
