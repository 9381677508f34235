"""Doubtful labels: out-of-sample probabilities by cross-validation, and confident learning on them."""

import warnings

import numpy as np

FOLDS = 5

# Measured four times with wrong labels planted in 1 of 20 images: among the same number of most doubtful ones were 82 %
# of them in 1,727 images of five classes (at most 81 % with C from 3 to 100 or with standardised features), 69 % in
# 1,434 of 89 (between 69 and 74 % with all of these). All of the first twenty were planted ones.
_C = 10.0
_ITERATIONS = 500


def probabilities(features: np.ndarray, labels: np.ndarray, pictures: np.ndarray, classes: int) -> np.ndarray:
    """Out-of-sample probabilities (n, classes); equal `pictures` share a fold. NaN where a fit lacks the class."""
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.full((len(labels), classes), np.nan)
    folds = min(FOLDS, len(np.unique(pictures)), int(np.bincount(labels).max()))
    if folds < 2 or len(np.unique(labels)) < 2:
        return found
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds, whose rows become NaN
        parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, labels, pictures))
    for fit, rest in parts:
        known = rest[np.isin(labels[rest], labels[fit])]
        if len(np.unique(labels[fit])) > 1 and len(known):
            found[known] = fit_predict(features[fit], labels[fit], features[known], classes)
    return found


def fit_predict(features: np.ndarray, labels: np.ndarray, others: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (m, classes) of `others` (m, d) by a logistic regression fitted on `features` and `labels`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer
    from threadpoolctl import threadpool_limits

    model = make_pipeline(Normalizer(), LogisticRegression(C=_C, max_iter=_ITERATIONS))
    # Fits this small are slower with several threads.
    # Warnings are of convergence: close to it is good enough for a ranking.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore"):
        model.fit(features, labels)
    found = np.zeros((len(others), classes))
    found[:, model.classes_] = model.predict_proba(others)
    return found


def doubtful(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows with a wrong label by confident learning, the least probable label first; never a row of NaN.

    Northcutt, Jiang and Chuang 2021, "Confident learning", https://arxiv.org/abs/1911.00068: the number of doubtful
    images of class i that should be j is the number of those above the mean probability of j for images of class j.
    """
    judged = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if len(np.unique(labels[judged])) < 2:
        return judged[:0]
    with warnings.catch_warnings(action="ignore"):
        from cleanlab.filter import find_label_issues

        # One process: a fork would copy TensorFlow's threads.
        ranked = find_label_issues(
            labels[judged], probabilities[judged], return_indices_ranked_by="self_confidence", n_jobs=1
        )
    found: np.ndarray = judged[ranked]
    return found
