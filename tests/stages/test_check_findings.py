"""The images that a check fits its models on."""

import numpy as np
import pandas as pd

from flowers.stages.check import findings, labels
from flowers.training.subsets import Subset


def test_no_model_of_test_images_is_fitted_on_their_near_duplicates(monkeypatch):
    subsets = ["train"] * 4 + ["test"] * 2
    names = [f"{number}.jpg" for number in range(6)]
    rows = {"path": names, "label": ["rose", "tulip"] * 3, "sha256": names, "pixels": names, "subset": subsets}
    images = Subset(pd.DataFrame(rows), np.array([0, 1] * 3), ["rose", "tulip"])
    pictures = ["a", "b", "c", "d", "a", "e"]  # the first training image is a near-duplicate of a test image
    fitted = []

    def fit_predict(features, _, others, classes):
        fitted.extend(features[:, 0])
        return np.full((len(others), classes), 0.5)

    monkeypatch.setattr(labels, "fit_predict", fit_predict)
    monkeypatch.setattr(labels, "probabilities", lambda features, *_: np.full((len(features), 2), 0.5))
    findings.find(images, pictures, np.arange(6)[:, None], with_test=True)
    assert fitted == [1, 2, 3]
