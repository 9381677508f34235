"""Whom a check asks about whom."""

import numpy as np
import pandas as pd

from flowers.stages.check import findings, labels
from flowers.training.subsets import Subset


def test_no_picture_vouches_for_its_copy_among_the_test_photos(monkeypatch):
    subsets = ["train"] * 4 + ["test"] * 2
    names = [f"{number}.jpg" for number in range(6)]
    rows = {"path": names, "label": ["rose", "tulip"] * 3, "sha256": names, "pixels": names, "subset": subsets}
    photos = Subset(pd.DataFrame(rows), np.array([0, 1] * 3), ["rose", "tulip"])
    pictures = ["a", "b", "c", "d", "a", "e"]  # the first training photo shows what a test photo does
    fitted = []

    def answers(features, _, others, classes):
        fitted.extend(features[:, 0])
        return np.full((len(others), classes), 0.5)

    monkeypatch.setattr(labels, "answers", answers)
    monkeypatch.setattr(labels, "probabilities", lambda features, *_: np.full((len(features), 2), 0.5))
    findings.find(photos, pictures, np.arange(6)[:, None], with_test=True)
    assert fitted == [1, 2, 3]
