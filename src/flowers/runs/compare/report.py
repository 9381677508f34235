"""What a comparison says: a document of the parameters, scores, classes and photos in which results differ."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowers.metrics import bootstrap, classification, paired
from flowers.reporting.document import Card, Document, Gallery, Part, Section, Table
from flowers.reporting.measures import NAMES, PLAIN, number
from flowers.runs.predictions import Answers

Thumbnail = Callable[[str, str], bytes | None]  # of a photo's path and hash; None where the photo is not here

CLASSES = 10  # of each direction that are named
FLIPS = 24  # photos of each direction that are shown
_PROCESSOR = "processor"


def document(results: Sequence[Answers], thumbnail: Thumbnail = lambda path, sha256: None) -> Document:
    """Compare every result with the first one."""
    first, others = results[0], results[1:]
    compared = sum(first.photos() == other.photos() and first.classes == other.classes for other in others)
    level = paired.LEVEL / max(compared, 1)  # Bonferroni's: the chance of any false alarm stays at LEVEL
    lead, sections = [], [_what_differs(results)]
    for other in others:
        if first.classes != other.classes and first.photos() == other.photos():
            lead.append(f"'{first.name}' and '{other.name}' tell other classes apart: nothing is compared.")
            sections.append(_other_classes(first, other))
        elif first.photos() == other.photos():
            test = paired.mcnemar(first.labels, first.predicted, other.predicted)
            lead.append(_verdict(first, other, test, level))
            sections += _same_photos(first, other, thumbnail)
        else:
            lead.append(f"'{first.name}' and '{other.name}' were not tested on the same photos: nothing is compared.")
            sections.append(_other_photos(first, other))
    if compared > 1:
        lead.append(f"With {compared} comparisons, a p below {level:.3g} counts as more than chance.")
    named = ", ".join(f"'{each.name}'" for each in others)
    return Document(f"{named} against '{first.name}'", lead, sections)


def alone(result: Answers, lead: str) -> Document:
    """The scores of one result, where there is nothing to compare it with."""
    found = classification.scores(result.labels, result.probabilities)
    limits = bootstrap.intervals(result.labels, result.probabilities, paired.SAMPLES, seed=0)
    rows = [
        [NAMES[name], number(name, value), " to ".join(number(name, end) for end in limits[name])]
        for name, value in found.items()
    ]
    scores = Section(f"Scores on {_photos(len(result.labels))}", [Table(["measure", "score", "95 % interval"], rows)])
    return Document(f"'{result.name}'", [lead], [scores])


def _what_differs(results: Sequence[Answers]) -> Section:
    names = [each.name for each in results]
    width = 1 + len(results)
    parts: list[Part] = [Table(["", *names], [["found in", *(each.place for each in results)]], width)]
    if unknown := [each.name for each in results if not each.params]:
        parts.append(f"The parameters of {' and '.join(unknown)} are not known: dvc.lock is of another result.")
    else:
        parameters = _unlike([each.params for each in results])
        parts.append(Table(["parameter", *names], parameters, width) if parameters else "No parameter differs.")
    if unknown := [each.name for each in results if not each.inputs]:
        parts.append(f"What else went into {' and '.join(unknown)} is not known: dvc.lock is of another result.")
    else:
        tables = [{name: _short(value) for name, value in each.inputs.items()} for each in results]
        if not all(_PROCESSOR in table for table in tables):  # only runs know theirs
            tables = [{name: value for name, value in table.items() if name != _PROCESSOR} for table in tables]
        inputs = _unlike(tables)
        same = "All else that went in is the same: photos, split, weights, code and packages."
        parts.append(Table(["input", *names], inputs, width) if inputs else same)
    return Section("What differs", parts)


def _unlike(tables: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """The rows of name and values whose values are not all equal."""
    names = sorted({name for table in tables for name in table})
    rows = [[name, *(table.get(name, "-") for table in tables)] for name in names]
    return [row for row in rows if len({_plain(value) for value in row[1:]}) > 1]


def _plain(value: str) -> str:
    """A value as it is compared: 1 and 1.0 are one number."""
    try:
        number = json.loads(value)
    except ValueError:
        return value
    return repr(float(number)) if isinstance(number, int | float) and not isinstance(number, bool) else value


def _short(value: str) -> str:
    """A hash by its start."""
    plain = value.removesuffix(".dir")
    return plain[:8] if len(plain) == 32 and set(plain) <= set("0123456789abcdef") else value


def _verdict(first: Answers, other: Answers, test: paired.McNemar, level: float) -> str:
    discordant = test.gained + test.lost
    if not discordant:
        return f"'{other.name}' is right on the same photos as '{first.name}'."
    counts = (
        f"'{other.name}' gets {_photos(test.gained)} right that '{first.name}' gets wrong, "
        f"and {test.lost} the other way"
    )
    p = f"exact McNemar p = {test.p:.2g}"
    if test.p < level:
        return f"{counts}: more than chance ({p})."
    if not paired.can_show(discordant, level):
        return f"{counts}: too few photos to tell, whichever way they fell ({p})."
    return f"{counts}: no more than chance may do ({p})."


def _same_photos(first: Answers, other: Answers, thumbnail: Thumbnail) -> list[Section]:
    found = paired.differences(first.labels, first.probabilities, other.probabilities)
    rows = [_score_row(name, found[name]) for name in NAMES if name in found]
    header = ["measure", first.name, other.name, "difference", "95 % interval"]
    scores = Section(
        f"Scores on {_photos(len(first.labels))}",
        [
            Table(header, rows),
            f"Differences are '{other.name}' minus '{first.name}', shares in points of percent; their intervals are "
            f"from {paired.SAMPLES:,} resamples of the photos of each class, the same ones for both.",
        ],
    )
    return [scores, _classes(first, other), _flips(first, other, thumbnail)]


def _score_row(name: str, found: paired.Difference) -> list[str]:
    difference, low, high = (_signed(name, value) for value in (found.value, found.low, found.high))
    return [NAMES[name], number(name, found.one), number(name, found.other), difference, f"{low} to {high}"]


def _signed(name: str, value: float) -> str:
    """A difference of a score, which has no unit: shares are in points of percent."""
    return f"{value:+.3f}" if name in PLAIN else f"{100 * value:+.1f}"


def _classes(first: Answers, other: Answers) -> Section:
    table = paired.per_class(first.labels, first.predicted, other.predicted, first.classes)
    gained, lost = table[table["change"] > 0], table[table["change"] < 0].iloc[::-1]
    parts: list[Part] = []
    for kind, changed in (("gained", gained), ("lost", lost)):
        if len(changed):
            rows = [
                [row["class"], str(row["photos"]), str(row["one"]), str(row["other"]), f"{100 * row['change']:+.0f}"]
                for _, row in changed.head(CLASSES).iterrows()
            ]
            more = f", the first {CLASSES} of them" if len(changed) > CLASSES else ""
            parts += [
                f"{len(changed)} of {len(first.classes)} classes {kind}{more}:",
                Table(["class", "photos", f"{first.name}: right", f"{other.name}: right", "points"], rows),
            ]
    return Section("Classes", parts or ["Every class has as many photos right as before."])


def _flips(first: Answers, other: Answers, thumbnail: Thumbnail) -> Section:
    right, now = first.predicted == first.labels, other.predicted == other.labels
    parts: list[Part] = []
    for title, rows, tone in (
        (f"Right in '{other.name}' alone", np.flatnonzero(~right & now), "good"),
        (f"Right in '{first.name}' alone", np.flatnonzero(right & ~now), "bad"),
    ):
        if len(rows):
            # Those first of which the one that is wrong was surest.
            wrong = (first if tone == "good" else other).probabilities[rows].max(axis=1)
            rows = rows[np.argsort(-wrong, kind="stable")]
            more = f", {FLIPS} shown" if len(rows) > FLIPS else ""
            cards = [_card(first, other, row, thumbnail, tone) for row in rows[:FLIPS]]
            parts += [f"{title} ({_photos(len(rows))}{more}):", Gallery(cards)]
    return Section("Photos that flipped", parts or ["None."])


def _card(first: Answers, other: Answers, row: int, thumbnail: Thumbnail, tone: str) -> Card:
    path, sha256, label = (str(first.table[column][row]) for column in ("path", "sha256", "label"))
    said = [
        f"{each.name}: {each.classes[each.predicted[row]]} {100 * each.probabilities[row].max():.0f} %"
        for each in (first, other)
    ]
    return Card(thumbnail(path, sha256), [label, *said, path], tone)


def _other_classes(first: Answers, other: Answers) -> Section:
    parts: list[Part] = []
    for one, two in ((first, other), (other, first)):
        if alone := [name for name in one.classes if name not in two.classes]:
            more = f" and {len(alone) - CLASSES} more" if len(alone) > CLASSES else ""
            parts.append(f"Only '{one.name}' knows {', '.join(alone[:CLASSES])}{more}.")
    return Section(f"Other classes: '{other.name}'", parts or ["Their classes stand in another order."])


def _other_photos(first: Answers, other: Answers) -> Section:
    common = len({*first.photos()} & {*other.photos()})
    parts: list[Part] = [
        f"'{first.name}' was tested on {_photos(len(first.labels))} of {len(first.classes)} classes, '{other.name}' on "
        f"{_photos(len(other.labels))} of {len(other.classes)}; {common} are the same in both.",
        "A difference of their scores may be one of the photos. To compare the models, train both on one split.",
    ]
    return Section(f"Other test photos: '{other.name}'", parts)


def _photos(count: int) -> str:
    return f"{count:,} photo{'s' * (count != 1)}"
