"""The decision: checks on validation photos alone, each with what it found. Touches no file and no store."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from flowers.common.errors import UserError
from flowers.metrics import classification, paired
from flowers.runs.predictions import Answers

_NAMED = 10  # classes in a message
JUDGED, BETTER = "judged by photos it never saw", "better than the champion"


@dataclass(frozen=True)
class Check:
    """One thing that a candidate must show: whether it did, and what was found."""

    name: str
    passed: bool
    found: str


def against(champion: Answers, candidate: Answers) -> Check:
    """Whether the candidate is right on more of the same validation photos than the champion, beyond chance."""
    name = BETTER
    if champion.photos() == candidate.photos() and champion.classes != candidate.classes:
        return Check(name, False, "the champion tells other classes apart")
    if champion.photos() != candidate.photos():
        return Check(name, False, "the champion was judged on other validation photos: train both on one split")
    test = paired.mcnemar(candidate.labels, champion.predicted, candidate.predicted)
    counts = f"{test.gained} photos gained, {test.lost} lost of {len(candidate.labels)}, exact McNemar p = {test.p:.2g}"
    if test.p < paired.LEVEL:
        return Check(name, test.gained > test.lost, counts)
    if not paired.can_show(test.gained + test.lost):
        return Check(name, False, f"{counts}: too few photos differ to tell, whichever way; the champion stays")
    return Check(name, False, f"{counts}: no more than chance may do")


def floors(candidate: Answers, wanted: Mapping[str, float]) -> list[Check]:
    """A check per guarded class: its recall on the validation photos. Raises UserError for a class that is unknown."""
    if unknown := sorted(wanted.keys() - {*candidate.classes}):
        close = difflib.get_close_matches(unknown[0], candidate.classes, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"its classes: {', '.join(candidate.classes[:_NAMED])}"
        raise UserError(f"params.yaml: promote.floors: '{unknown[0]}' is no class of run {candidate.name}; {hint}")
    table = classification.per_class(candidate.labels, candidate.predicted, candidate.classes)
    counts = {row["class"]: (int(row["photos"]), int(row["correct"])) for _, row in table.iterrows()}
    checks = []
    for label, floor in sorted(wanted.items()):
        photos, right = counts[label]
        passed = photos > 0 and right / photos >= floor
        found = f"{right} of {photos} right, at least {100 * floor:g} % wanted" if photos else "no validation photo"
        checks.append(Check(f"floor of {label}", passed, found))
    return checks
