"""The page on one evaluation: how good the model is, what it mistakes, how sure it is, and where it is worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.metrics import classification, confusions, slices
from flowers.metrics.classification import Labels, Probabilities
from flowers.reporting import measures, thumbnails
from flowers.reporting.document import Card, Document, Gallery, Part, Picture, Section, Table

PAIRS, PHOTOS_OF_A_PAIR = 6, 4
HARDEST = 3  # classes that the first lines name
NEAR_ONE = 0.05  # a temperature that says nothing
FOLDED_FROM = 21  # classes


@dataclass(frozen=True)
class Tested:
    """The answers to the test photos and what is known of these photos, (n,) each, and of their classes, (c,)."""

    files: Sequence[str]
    labels: Labels
    probabilities: Probabilities  # (n, c)
    brightness: NDArray[np.float64]  # 0 ... 1
    short_side: NDArray[np.int64]  # pixels
    classes: Sequence[str]
    training_photos: NDArray[np.int64]


@dataclass(frozen=True)
class Written:
    """What else was found; `pictures` are the stage's figures, PNG, by name: curves, confusion, ..."""

    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    resamples: int
    calibration: Mapping[str, float | bool | None]
    pictures: Mapping[str, bytes]


def shown(labels: Labels, probabilities: Probabilities, gallery: int) -> tuple[list[int], set[int]]:
    """The rows of the `gallery` surest mistakes, and of all photos that the page shows."""
    surest = confusions.surest(labels, probabilities)[:gallery].tolist()
    pairs = confusions.pairs(labels, probabilities)[:PAIRS]
    return surest, {*surest, *(row for pair in pairs for row in pair.rows[:PHOTOS_OF_A_PAIR].tolist())}


def document(
    tested: Tested, written: Written, pixels: Mapping[int, np.ndarray], heat: Mapping[int, np.ndarray]
) -> Document:
    """The page. `pixels` are those of the rows that `shown` names, `heat` the Grad-CAM of its surest mistakes."""
    table = classification.per_class(tested.labels, tested.probabilities.argmax(axis=1), tested.classes)
    pairs = confusions.pairs(tested.labels, tested.probabilities)
    sections = [
        _scores(written),
        Section("Training", [Picture(written.pictures["curves"], "loss and accuracy of each epoch", "curves.png")]),
        _confusion(tested, written, pairs, pixels),
        *([_surest(tested, pixels, heat)] if heat else []),
        _classes(table, written),
        _calibration(written),
        _slices(tested),
    ]
    title = (
        f"Evaluation on {_count(len(tested.labels), 'test photo')} of {_count(len(tested.classes), 'class', 'classes')}"
    )
    return Document(title, _lead(tested, written, table, pairs), sections)


def _lead(tested: Tested, written: Written, table: pd.DataFrame, pairs: Sequence[confusions.Pair]) -> list[str]:
    scores, (low, high) = written.scores, written.intervals["accuracy"]
    lines = [
        f"The model names {_share(scores['accuracy'])} of them right (95\u00a0% interval {_share(low)} – "
        f"{_share(high)}), as a mean over the classes {_share(scores['mean_per_class_accuracy'])}."
    ]
    if not pairs:
        return [*lines, "It makes no mistake on these photos."]
    missed = table[table["correct"] < table["photos"]].sort_values(["recall", "photos"], ascending=[True, False])
    named = [f"{row['class']} ({row['correct']} of {row['photos']})" for _, row in missed.head(HARDEST).iterrows()]
    worst = pairs[0]
    often = f"{tested.classes[worst.label]} for {tested.classes[worst.predicted]} ({_times(len(worst.rows))})"
    most = f" Most often it takes {often}." if len(worst.rows) > 1 else ""
    return [*lines, f"Hardest to name: {', '.join(named)}.{most}"]


def _scores(written: Written) -> Section:
    rows = measures.rows(written.scores, written.intervals)
    text = (
        f"The intervals come from {written.resamples:,} resamples of the photos of each class. They are of this one "
        "model on other photos like these; another training may differ by more."
    )
    return Section("Scores", [Table(["measure", "score", "95 % interval"], rows), text])


def _confusion(
    tested: Tested, written: Written, pairs: Sequence[confusions.Pair], pixels: Mapping[int, np.ndarray]
) -> Section:
    alt = "photos by true and by predicted class"
    parts: list[Part] = [Picture(written.pictures["confusion"], alt, "confusion.png")]
    if not pairs:
        return Section("What is taken for what", [*parts, "No photo is taken for another class."])
    total = np.bincount(tested.labels, minlength=len(tested.classes))
    for pair in pairs[:PAIRS]:
        label, predicted = tested.classes[pair.label], tested.classes[pair.predicted]
        cards = [
            Card(thumbnails.jpeg(pixels[row]), [f"{_share(tested.probabilities[row].max())} sure", tested.files[row]])
            for row in pair.rows[:PHOTOS_OF_A_PAIR].tolist()
        ]
        title = f"{label} taken for {predicted}: {len(pair.rows)} of {_count(int(total[pair.label]), 'photo')}"
        parts.append(Gallery(cards, title))
    return Section("What is taken for what", parts)


def _surest(tested: Tested, pixels: Mapping[int, np.ndarray], heat: Mapping[int, np.ndarray]) -> Section:
    cards = []
    for row, places in heat.items():
        label, named = int(tested.labels[row]), int(tested.probabilities[row].argmax())
        sure, right = tested.probabilities[row][[named, label]].tolist()
        lines = [
            tested.classes[label],
            f"taken for {tested.classes[named]}, {_share(sure)} sure; {_share(right)} for the right class",
            tested.files[row],
        ]
        overlay = thumbnails.jpeg(thumbnails.overlay(pixels[row], places))
        cards.append(Card(thumbnails.jpeg(pixels[row]), lines, "bad", beside=overlay))
    text = (
        "The wrong answers that the model is surest of; a photo whose label is wrong often stands here. Colour shows "
        "what in it speaks for the class that it was taken for, the brighter the more (Grad-CAM, arXiv 1610.02391)."
    )
    return Section("Surest mistakes", [text, Gallery(cards)])


def _classes(table: pd.DataFrame, written: Written) -> Section:
    rows = [
        [
            row["class"],
            *(str(row[name]) for name in ("photos", "correct")),
            *("–" if np.isnan(row[name]) else _share(row[name]) for name in ("recall", "precision", "f1")),
            f"{row['confused_with']} ({row['confused']})" if row["confused"] else "–",
        ]
        for _, row in table.sort_values(["recall", "class"]).iterrows()
    ]
    header = ["class", "photos", "right", "recall", "precision", "F1", "most often taken for"]
    picture = Picture(written.pictures["per_class"], "recall of each class", "per_class.png")
    return Section("Classes", [Table(header, rows, folded=len(rows) >= FOLDED_FROM), picture])


def _calibration(written: Written) -> Section:
    found = written.calibration
    error = _share(float(found["expected_calibration_error"] or 0))
    parts: list[Part] = [
        "Does a probability mean what it says? Of the answers that are 80 % sure, 80 % should be right. The expected "
        f"calibration error is how far the two are apart on average: {error}."
    ]
    if found["validation_held_out"]:
        temperature = float(found["temperature"] or 1)
        before = _share(float(found["expected_calibration_error_without_temperature"] or 0))
        if abs(temperature - 1) < NEAR_ONE:
            way = "about as sure as it should be"
        else:
            way = "surer than it should be" if temperature > 1 else "less sure than it could be"
        parts.append(
            f"As trained, it was {before} and the model {way}: all logits are divided by a temperature of "
            f"{temperature:.2f}, fitted on the validation photos. That changes probabilities and never an answer."
        )
        parts.append(_sure(found))
    else:
        parts.append("No temperature was fitted: the validation photos were trained on.")
    return Section(
        "How sure it is", [*parts, Picture(written.pictures["reliability"], "reliability", "reliability.png")]
    )


def _sure(found: Mapping[str, float | bool | None]) -> str:
    if not found["sure"]:
        return "No answer on the test photos is called sure: the validation photos gave no reason to."
    return (
        f"Answers of at least {_share(float(found['threshold'] or 0))} are called sure, others unsure; the validation "
        f"photos fixed that. On the test photos {_share(float(found['sure']))} are sure, and "
        f"{_share(float(found['sure_accuracy'] or 0))} of those are right."
    )


def _slices(tested: Tested) -> Section:
    right = tested.probabilities.argmax(axis=1) == tested.labels
    parts: list[Part] = []
    for name, values, scale, unit in (
        ("training photos of the class", tested.training_photos[tested.labels], 1, ""),
        ("brightness", tested.brightness, 100, "\u00a0%"),
        ("short side in pixels", tested.short_side, 1, ""),
    ):
        found = slices.accuracy(values, right)
        if len(found) == 1:
            parts.append(f"{name.capitalize()}: {_span(found.iloc[0], scale, unit)} for every photo.")
            continue
        rows = [
            [
                _span(row, scale, unit),
                f"{int(row['photos']):,}",
                _share(row["accuracy"]),
                f"{_share(row['accuracy_low'])} – {_share(row['accuracy_high'])}",
            ]
            for _, row in found.iterrows()
        ]
        parts.append(Table([name, "photos", "accuracy", "95 % interval"], rows))
    text = "Groups of about equally many photos. Brightness is the mean luma of what the network sees."
    return Section("Where it is better and worse", [*parts, text])


def _span(row: pd.Series, scale: float, unit: str) -> str:
    low, high = (f"{scale * row[end]:.0f}" for end in ("low", "high"))
    return f"{low}{unit}" if low == high else f"{low} – {high}{unit}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"  # a space that no line ends at


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
