"""The checks that decide about a promotion, each on validation images alone; they touch no file and no store."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from flowers.common import console
from flowers.common.errors import UserError
from flowers.metrics import paired
from flowers.runs.predictions import Predictions

JUDGED, BETTER = "unseen validation images", "better than the champion"
UNKNOWN = "unknown images are recognised"


@dataclass(frozen=True)
class Check:
    """A condition for a promotion, whether it is met, and the finding in words."""

    name: str
    passed: bool
    found: str


def against(champion: Predictions, candidate: Predictions) -> Check:
    """Whether the candidate is right on significantly more of the same validation images than the champion."""
    if champion.images() != candidate.images():
        return Check(BETTER, False, "the champion has other validation images: train both on one split")
    if champion.classes != candidate.classes:
        return Check(BETTER, False, "the champion has other classes")
    test = paired.mcnemar(candidate.labels, champion.predicted, candidate.predicted)
    counts = f"{test.gained} images gained, {test.lost} lost of {len(candidate.labels)}, exact McNemar p = {test.p:.2g}"
    if test.p < paired.LEVEL:
        return Check(BETTER, test.gained > test.lost, counts)
    if not paired.can_show(test.gained + test.lost):
        return Check(BETTER, False, f"{counts}: too few images differ for a significant result; the champion stays")
    return Check(BETTER, False, f"{counts}: not significant")


def unknown(content: bytes | None, minimum: float) -> Check:
    """Whether validation images of a class that is left out are told from the others: promote.unknown_auroc.

    `content` is the run's novelty.json, None if it has none.
    """
    left_out = json.loads(content).get("validation_class_left_out") if content else None
    if not left_out:
        return Check(UNKNOWN, False, "the run has no such measurement: no detector, or fewer than three classes")
    found = f"AUROC {left_out['auroc']:.3f} of a class that is left out, minimum {minimum:g}"
    return Check(UNKNOWN, left_out["auroc"] >= minimum, found)


def minimum_recall(candidate: Predictions, wanted: Mapping[str, float]) -> list[Check]:
    """A check per class of promote.floors: its recall on the validation images. Raises UserError for unknown ones."""
    if unknown := sorted(wanted.keys() - {*candidate.classes}):
        close = difflib.get_close_matches(unknown[0], candidate.classes, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"its classes: {console.listed(candidate.classes)}"
        raise UserError(f"params.yaml: promote.floors: '{unknown[0]}' is no class of run {candidate.name}; {hint}")
    checks = []
    for label, minimum in sorted(wanted.items()):
        right = (candidate.predicted == candidate.labels)[candidate.table["label"] == label]
        recall = right.mean() if len(right) else 0.0
        found = f"{right.sum()} of {len(right)} right, minimum {100 * minimum:g} %"
        checks.append(Check(f"minimum recall of {label}", bool(len(right) and recall >= minimum), found))
    return checks
