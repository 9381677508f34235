"""Labels in doubt: what models that never saw a photo say of it, and confident learning on their answers."""

import warnings

import numpy as np

FOLDS = 5

# Measured with wrong labels planted in 1 of 20 photos, four times: among as many first ones in doubt were 82 % of them
# in 1,727 photos of five classes (at most 81 % with C from 3 to 100 or with standardised features), 69 % in 1,434 of 89
# (all between 69 and 74 %). All of the first twenty were planted ones.
_C = 10.0
_ITERATIONS = 500


def probabilities(features: np.ndarray, labels: np.ndarray, pictures: np.ndarray, classes: int) -> np.ndarray:
    """Out-of-sample probabilities (n, classes), by stratified cross-validation that keeps equal `pictures` together.

    `features` (n, d), `labels` (n,) class numbers. Where a photo's class was not among those that its model was fitted
    on, its row is NaN: nothing can be said. Deterministic.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.full((len(labels), classes), np.nan)
    folds = min(FOLDS, len(np.unique(pictures)), int(np.bincount(labels).max()))
    if folds < 2 or len(np.unique(labels)) < 2:
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer photos than folds, which is what NaN is for
        parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, labels, pictures))
    for fit, rest in parts:
        known = np.isin(labels[rest], labels[fit])
        if len(np.unique(labels[fit])) > 1 and known.any():
            found[rest[known]] = answers(features[fit], labels[fit], features[rest[known]], classes)
    return found


def answers(features: np.ndarray, labels: np.ndarray, others: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (m, classes) of `others` (m, d) by a logistic regression fitted on `features` and `labels`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer
    from threadpoolctl import threadpool_limits

    model = make_pipeline(Normalizer(), LogisticRegression(C=_C, max_iter=_ITERATIONS))
    # These fits are small: threads would mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # close to converged is good enough for a ranking
        model.fit(features, labels)
    found = np.zeros((len(others), classes))
    found[:, model.classes_] = model.predict_proba(others)
    return found


def doubtful(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows whose label confident learning calls wrong, the least probable label first; never a row of NaN.

    Northcutt, Jiang and Chuang 2021, "Confident learning", https://arxiv.org/abs/1911.00068: as many photos of class i
    are doubted in favour of j as are surer of j than photos of class j are on average.
    """
    judged = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if len(np.unique(labels[judged])) < 2:
        return judged[:0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues

        # One process: it would fork one that runs TensorFlow.
        ranked = find_label_issues(
            labels[judged], probabilities[judged], return_indices_ranked_by="self_confidence", n_jobs=1
        )
    found: np.ndarray = judged[ranked]
    return found
