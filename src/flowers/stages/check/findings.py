"""What a check finds, as tables: groups of photos that show the same picture, and labels in doubt."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flowers.stages.check import labels
from flowers.training.subsets import Subset


@dataclass(frozen=True)
class Findings:
    """All that a check found.

    `photos` has every photo, with `picture` (what it shows, by a name). `doubtful` has those whose label is in doubt,
    the least probable first: path, sha256, label, subset, `p_label`, `suggested` (the most probable other class) and
    `p_suggested`. `typical` has, for every class, a photo that is surely of it: path and sha256 by class.
    `judged` photos were asked about; `unjudged` are the classes with too few photos to ask.
    """

    photos: pd.DataFrame
    doubtful: pd.DataFrame
    typical: pd.DataFrame
    judged: int
    unjudged: list[str]

    def groups(self) -> list[pd.DataFrame]:
        """The photos of every picture that several show, in the order of their first paths."""
        several = self.photos[self.photos.duplicated("picture", keep=False)]
        return [group for _, group in several.groupby("picture", sort=False)]


def find(photos: Subset, pictures: list[str], features: np.ndarray, with_test: bool) -> Findings:
    """Look at photos of all subsets, with their pictures and features (n, d), in one order.

    Train and val photos are judged by models of the others of them; with `with_test`, the test photos by a model of
    train and val. Nothing is ever fitted on a test photo.
    """
    table = photos.table.assign(picture=pictures)
    own = (table["subset"] != "test").to_numpy()
    classes, numbers = photos.classes, photos.labels
    chances = np.full((len(table), len(classes)), np.nan)
    chances[own] = labels.probabilities(features[own], numbers[own], np.array(pictures)[own], len(classes))
    if with_test and not own.all():
        tested = table.loc[~own, "picture"]
        fitted = own & ~table["picture"].isin(tested).to_numpy()  # no picture vouches for itself
        chances[~own] = labels.answers(features[fitted], numbers[fitted], features[~own], len(classes))
    rows = np.arange(len(table))
    p_label = chances[rows, numbers]
    others = np.where(np.isnan(chances), -1, chances)
    others[rows, numbers] = -1
    table = table.assign(
        p_label=p_label, suggested=np.array(classes)[others.argmax(axis=1)], p_suggested=others.max(axis=1)
    )
    judged = table[~np.isnan(p_label)]
    columns = ["path", "sha256", "label", "subset", "p_label", "suggested", "p_suggested"]
    typical = judged.sort_values(["p_label", "path"], ascending=[False, True]).drop_duplicates("label")
    return Findings(
        photos=table[["path", "sha256", "label", "subset", "pixels", "picture"]],
        doubtful=table.iloc[labels.doubtful(numbers, chances)][columns],
        typical=typical.set_index("label")[["path", "sha256"]],
        judged=len(judged),
        unjudged=sorted({*table["label"][own]} - {*judged["label"]}),
    )
