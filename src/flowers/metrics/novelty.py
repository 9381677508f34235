"""How foreign an image is: the likelihood of its features under the known classes against that of a class never seen.

The model is probabilistic linear discriminant analysis (Ioffe, "Probabilistic Linear Discriminant Analysis", ECCV 2006)
in its two-covariance form: each class has a mean, drawn from a normal distribution between classes, and its images
scatter around it with one covariance. For few images a class it is the principled form of the relative Mahalanobis
distance (Ren et al., arXiv 2106.09022; Mueller and Hein, arXiv 2505.18032): a mean of few images counts less.
"""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

DIRECTIONS = 512  # principal components that are kept, at most
ISOTROPIC = 0.8  # share of the variance between classes that is equal in all directions: new classes may differ in any
WITHIN = 0.99  # share of known images within the limit of the distance
BEYOND = 100  # nats by which an image at twice this limit is lowered: more than ratios differ
LEFT_OUT = 50  # classes that `leave_out` leaves out, at most
KNOWN_IMAGES, LEFT_OUT_IMAGES = 1000, 10_000  # of other classes that it compares each with; training images; at most
FOLDS, HELD_OUT_IMAGES = 5, 2000  # of the cross-validation
_SMALLEST = 1e-12
_SMALLEST_LIMIT = 1e-5  # rounding alone makes a distance of 1e-7
_RIDGE = 1e-6  # of the mean variance: without it a covariance of few images may be singular
_BLOCK = 4096  # images


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
        starts = range(0, max(len(features), 1), _BLOCK)
        return np.concatenate([self._ratios(*self._projected(features[start : start + _BLOCK])) for start in starts])

    def best(self, features: Features) -> tuple[Features, Features]:
        """The largest ratios (n,), and the squared distances (n,) of the normalised features from the components."""
        projected, distances = self.projected(features)
        return self.best_of(projected, distances), distances

    def projected(self, features: Features) -> tuple[Features, Features]:
        """Coordinates (n, d) of the normalised features in the components, and squared distances (n,) from these."""
        from threadpoolctl import threadpool_limits

        starts = range(0, max(len(features), 1), _BLOCK)
        with threadpool_limits(limits=1, user_api="blas"):
            blocks = [self._projected(features[start : start + _BLOCK]) for start in starts]
        return np.concatenate([block[0] for block in blocks]), np.concatenate([block[1] for block in blocks])

    def best_of(self, projected: Features, distances: Features) -> Features:
        """The largest ratios (n,), from what `projected` returns."""
        starts = range(0, max(len(projected), 1), _BLOCK)
        blocks = [slice(start, start + _BLOCK) for start in starts]
        return np.concatenate([self._ratios(projected[rows], distances[rows]).max(axis=1) for rows in blocks])

    def limited(self, distances: Features) -> "Detector":
        """The detector with the limit that 99 % of these known images keep."""
        return replace(self, limit=np.array(max(np.quantile(distances, WITHIN), _SMALLEST_LIMIT), np.float32))

    def beyond(self, distances: Features) -> Features:
        """The nats (n,) by which ratios are lowered at these distances."""
        return np.asarray(BEYOND * np.maximum(distances / self.limit - 1, 0), np.float32)

    def _projected(self, features: Features) -> tuple[Features, Features]:
        values = normalized(features, self.stages.astype(int)) - self.mean
        projected = values @ self.components
        distances = np.maximum(np.square(values).sum(axis=1) - np.square(projected).sum(axis=1), 0)
        return np.asarray(projected, np.float32), np.asarray(distances, np.float32)

    def _ratios(self, projected: Features, distances: Features) -> Features:
        at = projected @ self.axes - self.offset
        found = (at * at) @ self.quadratic.T + at @ self.linear.T + self.constant
        return np.asarray(found - self.beyond(distances)[:, None], np.float32)


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
    from threadpoolctl import threadpool_limits

    values = normalized(features, stages)
    count = min(DIRECTIONS, len(values) - 1, values.shape[1])
    if count < 1 or np.ptp(values, axis=0).max() < 1e-6:
        raise NoSpread("all training images are equal")
    analysis = PCA(count, svd_solver="randomized", random_state=0, copy=False)  # copy=False: may take a gigabyte
    with threadpool_limits(limits=1, user_api="blas"):  # the bits do not depend on the number of threads
        projected = analysis.fit_transform(values).astype(np.float64)
        del values
        quadratic = _quadratic(projected, labels, classes)
    detector = Detector(
        stages=np.array(stages, np.float32),
        mean=analysis.mean_,
        components=np.ascontiguousarray(analysis.components_.T),
        **quadratic,
        limit=np.array(np.inf, np.float32),
    )
    return Fit(detector, projected, labels)


def _quadratic(projected: NDArray[np.float64], labels: NDArray[np.int32], classes: int) -> dict[str, Features]:
    """The arrays of a detector that depend on the labels, from coordinates (n, d) of training images."""
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf

    images = np.bincount(labels, minlength=classes)
    centre = projected.mean(axis=0)
    projected = projected - centre
    sums = np.zeros((classes, projected.shape[1]))
    present, starts = np.unique(np.sort(labels), return_index=True)
    sums[present] = np.add.reduceat(projected[np.argsort(labels, kind="stable")], starts)
    means = sums / np.maximum(images, 1)[:, None]
    residuals = projected - means[labels]
    freedom = len(projected) - np.count_nonzero(images)
    if freedom < 1 or np.square(residuals).mean() < _SMALLEST:
        raise NoSpread("no class has two different training images")
    within = ledoit_wolf(residuals, assume_centered=True)[0] * len(projected) / freedom
    total = ledoit_wolf(projected, assume_centered=True)[0]
    within += _RIDGE * np.trace(total) / len(total) * np.eye(len(total))
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
    features: Features, labels: NDArray[np.int32], groups: Sequence[str], classes: int, stages: Sequence[int]
) -> tuple[Features, Features]:
    """What `Detector.best` gives for training images, by detectors fitted without them: stratified cross-validation.

    It has five folds, with groups of near-duplicates on one side, and ends with the fold that makes 2,000 images. Those
    whose class has no image in the rest do not count. Other arguments and errors are those of `fit`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found: list[NDArray[np.float32]] = []
    count = min(FOLDS, int(np.bincount(labels).max()))
    if count < 2:
        raise NoSpread("no class has two different training images")
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        divided = list(folds.split(features, labels, groups))
    for kept, out in divided:
        out = out[np.isin(labels[out], labels[kept])]
        if len(out) and sum(part.shape[1] for part in found) < HELD_OUT_IMAGES:
            with contextlib.suppress(NoSpread):
                without = fit(features[kept], labels[kept], classes, stages).detector
                found.append(np.stack(without.best(features[out])))
    if not found:
        raise NoSpread("too few training images for a cross-validation, which train.on: train+val needs")
    best, distances = np.concatenate(found, axis=1)
    return best, distances


def leave_out(
    fitted: Fit, tested: Mapping[str, tuple[NDArray[np.int32], Features]]
) -> dict[str, tuple[dict[str, float], Features]]:
    """How well images of each class are told from the others if it is left out of the detector.

    `tested` are groups of images that are not in training: labels (m,) and features (m, features). For each group it
    returns the means over the classes of `scores`, and the largest ratio of each image while its class is left out. 50
    classes are left out at most, each compared with 1,000 images of other classes at most, by detectors of 10,000
    training images at most, all drawn at random. With fewer than three classes there are no scores. The components, and
    the network, are those of all classes.
    """
    from threadpoolctl import threadpool_limits

    random, present = np.random.default_rng(0), np.unique(fitted.labels)
    chosen = np.sort(random.permutation(len(fitted.labels))[:LEFT_OUT_IMAGES])
    projected, labels = fitted.projected[chosen], fitted.labels[chosen]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in tested}
    foreign: dict[str, list[Features]] = {name: [np.empty(0, np.float32)] for name in tested}
    seen = {name: (numbers, *fitted.detector.projected(features)) for name, (numbers, features) in tested.items()}
    # Of two classes one would be left: nothing is known of the variance between classes.
    for left in np.sort(random.permutation(present)[:LEFT_OUT]) if len(present) > 2 else ():
        rows = labels != left
        try:
            with threadpool_limits(limits=1, user_api="blas"):
                quadratic = _quadratic(projected[rows], labels[rows], len(fitted.detector.constant))
        except NoSpread:
            continue
        without = replace(fitted.detector, **quadratic)
        for name, (numbers, at, distances) in seen.items():
            others, own = random.permutation(np.flatnonzero(numbers != left))[:KNOWN_IMAGES], numbers == left
            if len(others) and own.any():
                foreign[name].append(without.best_of(at[own], distances[own]))
                found[name].append(scores(without.best_of(at[others], distances[others]), foreign[name][-1]))
    return {
        name: (
            {score: float(np.mean([each[score] for each in of_group])) for score in (of_group[0] if of_group else ())},
            np.concatenate(foreign[name]),
        )
        for name, of_group in found.items()
    }


def scores(known: Features, foreign: Features) -> dict[str, float]:
    """AUROC, and the false positive rate at 95 %: the share of foreign images above what 95 % of known ones reach.

    `known` (n,) and `foreign` (m,) hold a number for each image that is larger for known ones.
    """
    from sklearn.metrics import roc_auc_score

    area = roc_auc_score(np.repeat([1, 0], [len(known), len(foreign)]), np.concatenate([known, foreign]))
    return {"auroc": float(area), "fpr95": float(np.mean(foreign >= threshold(known, 0.95)))}
