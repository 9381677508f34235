"""The findings of a check as tables: groups of near-duplicates, and doubtful labels."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flowers.stages.check import labels
from flowers.training.subsets import Subset


@dataclass(frozen=True)
class Findings:
    """All findings of a check."""

    images: pd.DataFrame  # every image, with `picture`, equal for near-duplicates
    doubtful: pd.DataFrame  # doubtful labels, the least probable first; `suggested` is the most probable other class
    typical: pd.DataFrame  # the most probable image of each class: path and sha256 by class
    judged: int  # images with out-of-sample probabilities
    unjudged: list[str]  # classes with too few images for them


def find(chosen: Subset, pictures: list[str], features: np.ndarray, with_test: bool) -> Findings:
    """Check images of all subsets, with their pictures and features (n, d) in the same order.

    Train and val images are judged by cross-validation among them; with `with_test`, test images by a model of train
    and val. No model is fitted on a test image.
    """
    table = chosen.table.assign(picture=pictures)
    own = (table["subset"] != "test").to_numpy()
    classes, numbers = chosen.classes, chosen.labels
    probabilities = np.full((len(table), len(classes)), np.nan)
    probabilities[own] = labels.probabilities(features[own], numbers[own], np.array(pictures)[own], len(classes))
    if with_test and not own.all():
        fitted = own & ~table["picture"].isin(table.loc[~own, "picture"]).to_numpy()  # without copies of test images
        probabilities[~own] = labels.fit_predict(features[fitted], numbers[fitted], features[~own], len(classes))
    rows = np.arange(len(table))
    p_label = probabilities[rows, numbers]
    others = np.where(np.isnan(probabilities), -1, probabilities)
    others[rows, numbers] = -1
    table = table.assign(
        p_label=p_label, suggested=np.array(classes)[others.argmax(axis=1)], p_suggested=others.max(axis=1)
    )
    judged = table[~np.isnan(p_label)]
    columns = ["path", "sha256", "label", "subset", "p_label", "suggested", "p_suggested"]
    typical = judged.sort_values(["p_label", "path"], ascending=[False, True]).drop_duplicates("label")
    return Findings(
        images=table[["path", "sha256", "label", "subset", "pixels", "picture"]],
        doubtful=table.iloc[labels.doubtful(numbers, probabilities)][columns],
        typical=typical.set_index("label")[["path", "sha256"]],
        judged=len(judged),
        unjudged=sorted({*table["label"][own]} - {*judged["label"]}),
    )
