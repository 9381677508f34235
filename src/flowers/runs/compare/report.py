"""The document of a comparison: parameters, scores, classes and images in which results differ."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowers.common import console
from flowers.metrics import bootstrap, classification, paired
from flowers.reporting import measures
from flowers.reporting.document import Card, Document, Gallery, Part, Section, Table
from flowers.reporting.measures import NAMES, PLAIN, count, number
from flowers.runs.compare import code, confusions, groups
from flowers.runs.predictions import Predictions

Thumbnail = Callable[[str, str], bytes | None]  # of an image's path and hash; None where the image is not here

CLASSES = 10  # listed of each end
FLIPS = 24  # images shown of each direction
_PROCESSOR = "processor"


def document(results: Sequence[Predictions], thumbnail: Thumbnail | None = None) -> Document:
    """Compare every result with the first one."""
    first, others = results[0], results[1:]
    compared = sum(first.images() == other.images() and first.classes == other.classes for other in others)
    level = paired.LEVEL / max(compared, 1)  # Bonferroni: the probability of any false positive stays at LEVEL
    lead: list[str] = []
    scores: list[Section] = []
    details: list[Section] = []
    for other in others:
        if first.images() != other.images():
            common = len({*first.images()} & {*other.images()})
            lead.append(
                f"'{first.name}' and '{other.name}' have different test images ({len(first.table):,} and "
                f"{len(other.table):,}, {common:,} of them the same): nothing is compared. Train both on one split."
            )
        elif first.classes != other.classes:
            only = [
                name for name in (*first.classes, *other.classes) if (name in first.classes) != (name in other.classes)
            ]
            found = f"only one has {console.listed(only)}" if only else "they are in another order"
            lead.append(f"'{first.name}' and '{other.name}' have different classes ({found}): nothing is compared.")
        else:
            of_pair = groups.compared if first.group or other.group else _compared
            verdict, section = of_pair(first, other, level)
            lead += verdict
            scores.append(section)
            details += [_classes(first, other), confusions.section(first, other, drawn=thumbnail is not None)]
            details.append(_flips(first, other, thumbnail))
        if changed := code.section(first, other):
            details.append(changed)
    if compared and not any(each.group for each in results):
        lead.append(groups.ONE_SEED)
    if compared > 1:
        lead.append(f"With {compared} comparisons, a p below {level:.3g} is significant.")
    named = ", ".join(f"'{each.name}'" for each in others)
    return Document(f"{named} against '{first.name}'", lead, [*scores, _what_differs(results), *details])


def alone(result: Predictions, lead: str) -> Document:
    """The scores of one result that is compared with nothing."""
    scores = classification.scores(result.labels, result.probabilities)
    limits = bootstrap.intervals(result.labels, result.probabilities, paired.SAMPLES, seed=0)
    section = Section(f"Scores on {count(len(result.labels), 'image')}", [measures.table(scores, limits)])
    return Document(f"'{result.name}'", [lead], [section])


def _what_differs(results: Sequence[Predictions]) -> Section:
    names, width = [each.name for each in results], 1 + len(results)
    rows, parts = [["found in", *(each.place for each in results)]], list[Part]()
    inputs = [{name: _short(value) for name, value in each.inputs.items()} for each in results]
    if not all(_PROCESSOR in table for table in inputs):  # only runs record it
        inputs = [{name: value for name, value in table.items() if name != _PROCESSOR} for table in inputs]
    alike = all(bool(each.group) == bool(results[0].group) for each in results)
    for kind, tables, same in (
        ("parameter", [each.params for each in results], "No parameter differs."),
        ("input", inputs, "All other inputs are the same: images, split, weights, code and packages."),
    ):
        unknown = [name for name, table in zip(names, tables, strict=True) if not table]
        if kind == "input" and not alike:
            parts.append("Other inputs are not compared: a group records them by other names than a single result.")
        elif unknown:
            parts.append(f"The {kind}s of {' and '.join(unknown)} are unknown: dvc.lock is of another result.")
        elif unlike := _unlike(tables):
            rows += unlike
        else:
            parts.append(same)
    return Section("What differs", [Table(["", *names], rows, width), *parts])


def _unlike(tables: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Rows of a name and its value in each table, for names whose values are not all equal."""
    names = sorted({name for table in tables for name in table})
    rows = [[name, *(table.get(name, "-") for table in tables)] for name in names]
    return [row for row in rows if len({_plain(value) for value in row[1:]}) > 1]


def _plain(value: str) -> str:
    """A value in the form that is compared: 1 and 1.0 are equal."""
    try:
        number = json.loads(value)
    except ValueError:
        return value
    return repr(float(number)) if isinstance(number, int | float) and not isinstance(number, bool) else value


def _short(value: str) -> str:
    """The first digits of a hash; any other value as it is."""
    plain = value.removesuffix(".dir")
    return plain[:8] if len(plain) in (32, 64) and set(plain) <= set("0123456789abcdef") else value


def _compared(first: Predictions, other: Predictions, level: float) -> tuple[list[str], Section]:
    """The difference, its interval and McNemar's verdict at a level of significance; and the table of scores."""
    found = paired.differences(first.labels, first.probabilities, other.probabilities)
    test = paired.mcnemar(first.labels, first.predicted, other.predicted)
    discordant = test.gained + test.lost
    accuracy = found["accuracy"]
    verdict = "significant" if test.p < level else "not significant"
    if not paired.can_show(discordant, level):
        verdict = "too few images differ for a significant result"
    if discordant:
        lead = measures.difference(first.name, other.name, accuracy.one, accuracy.other, (accuracy.low, accuracy.high))
        right = f"{count(test.gained, 'image')} right in '{other.name}' only, {test.lost:,} in '{first.name}' only"
        lines = [f"{lead}, {verdict} (exact McNemar p = {test.p:.2g}: {right})."]
    else:
        lines = [f"'{other.name}' is right on the same images as '{first.name}'."]
    lines += measures.few(len(first.labels), "test", discordant / len(first.labels), level)
    rows = []
    for name in [name for name in NAMES if name in found]:
        score, form = found[name], "{:+.3f}" if name in PLAIN else "{:+.1%}"
        difference, low, high = (form.format(value).removesuffix("%") for value in (score.value, score.low, score.high))
        rows.append([NAMES[name], number(name, score.one), number(name, score.other), difference, f"{low} to {high}"])
    header = ["measure", first.name, other.name, "difference", "95 % interval"]
    explained = (
        f"Differences are '{other.name}' minus '{first.name}', shares in percentage points; intervals are from "
        f"{paired.SAMPLES:,} resamples of the images of each class, the same for both."
    )
    return lines, Section(f"Scores on {count(len(first.labels), 'image')}", [Table(header, rows), explained])


def _classes(first: Predictions, other: Predictions) -> Section:
    changed = paired.per_class(first.labels, first.right, other.right, first.classes)
    if changed.empty:
        return Section("Classes", ["No class has another number of right predictions."], detail=True)
    gained = int((changed["change"] > 0).sum())
    shown = changed.drop(changed.index[CLASSES:-CLASSES])
    rows = [
        [name, str(images), *(f"{round(right, 1):g}" for right in (one, two)), f"{100 * change:+.0f}"]
        for name, images, one, two, change in shown.itertuples(index=False)
    ]
    more = f" (the first and last {CLASSES} are shown)" if len(shown) < len(changed) else ""
    counts = f"{gained} of {len(first.classes)} classes gained, {len(changed) - gained} lost{more}:"
    header = ["class", "images", f"{first.name}: right", f"{other.name}: right", "points"]
    return Section("Classes", [counts, Table(header, rows)], detail=True)


def _flips(first: Predictions, other: Predictions, thumbnail: Thumbnail | None) -> Section:
    gained = other.right - first.right  # of several trainings, the change of the share that has an image right
    parts: list[Part] = []
    form = "Right more often in '{}'" if first.group or other.group else "Right in '{}' only"
    for title, change, tone in (
        (form.format(other.name), gained, "good"),
        (form.format(first.name), -gained, "bad"),
    ):
        rows = np.flatnonzero(change > 0)
        if len(rows):
            # Of equal changes those with the most probable wrong prediction come first.
            wrong = (first if tone == "good" else other).probabilities[rows].max(axis=1)
            rows = rows[np.lexsort([-wrong, -change[rows]])]
            more = f", {FLIPS} shown" if len(rows) > FLIPS else ""
            cards = [_card(first, other, row, thumbnail, tone) for row in rows[:FLIPS]]
            parts += [f"{title} ({count(len(rows), 'image')}{more}):", Gallery(cards)]
    return Section("Images that flipped", parts or ["None."], detail=True)


def _card(first: Predictions, other: Predictions, row: int, thumbnail: Thumbnail | None, tone: str) -> Card:
    path, sha256, label = (str(first.table[column][row]) for column in ("path", "sha256", "label"))
    predicted = [
        f"{each.name}: {each.classes[each.predicted[row]]} {100 * each.probabilities[row].max():.0f} %"
        for each in (first, other)
    ]
    return Card(thumbnail(path, sha256) if thumbnail else None, [label, *predicted, path], tone)
