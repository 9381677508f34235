"""The page on an evaluation: what it says of which predictions."""

import re

import numpy as np
import pytest
from reporting_world import world

from flowers.metrics import classification
from flowers.reporting import document, evaluation_page
from flowers.reporting.document import Gallery, Table

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (900).to_bytes(4) + bytes(8)
FIGURES = dict.fromkeys(("curves", "confusion", "per_class", "reliability"), PNG)
CALIBRATION = {
    "validation_held_out": True,
    "temperature": 1.4211,
    "expected_calibration_error": 0.0231,
    "expected_calibration_error_without_temperature": 0.0614,
    "threshold": 0.62,
    "sure": 0.875,
    "sure_accuracy": 0.953,
}


def answered(n_classes=5, photos=120, sharpness=2.0, right=False, **changes) -> evaluation_page.Tested:
    labels, probabilities = world(n_classes, photos, sharpness=sharpness)
    if right:
        labels = probabilities.argmax(axis=1)
    values = {
        "files": [f"{label}/{number}.jpg" for number, label in enumerate(labels)],
        "labels": labels,
        "probabilities": probabilities,
        "brightness": np.linspace(0.1, 0.9, photos),
        "short_side": np.full(photos, 227),
        "classes": [f"flower {number}" for number in range(n_classes)],
        "training_photos": 10 + np.arange(n_classes),
    }
    return evaluation_page.Tested(**values | changes)


def page_of(found: evaluation_page.Tested, gallery=3, **calibration) -> document.Document:
    scores = classification.scores(found.labels, found.probabilities)
    intervals = {name: (0.9 * value, 1.1 * value) for name, value in scores.items()}
    written = evaluation_page.Written(scores, intervals, 1000, CALIBRATION | calibration, FIGURES)
    surest, shown = evaluation_page.shown(found.labels, found.probabilities, gallery)
    pixels = {row: np.full((224, 224, 3), row % 256, np.uint8) for row in shown}
    return evaluation_page.document(found, written, pixels, {row: np.eye(7, dtype=np.float32) for row in surest})


def parts(page: document.Document, title: str) -> list:
    (section,) = [section for section in page.sections if section.title == title]
    return [*section.parts]


def texts(page: document.Document, title: str) -> str:
    return " ".join(part for part in parts(page, title) if isinstance(part, str)).replace("\u00a0", " ")


def test_it_begins_with_the_score_and_with_what_is_hardest():
    found = answered()
    right = found.probabilities.argmax(axis=1) == found.labels
    recalls = [right[found.labels == number].mean() for number in range(5)]
    first, second = (line.replace("\u00a0", " ") for line in page_of(found).lead)
    assert f"{right.mean():.1%}".replace("%", " %") in first
    assert second.startswith(f"Hardest to name: flower {np.argmin(recalls)} (")


def test_a_model_without_mistakes_has_a_page_that_says_so():
    page = page_of(answered(right=True))
    assert "no mistake" in page.lead[1]
    assert "Surest mistakes" not in [section.title for section in page.sections]
    assert "No photo is taken for another class." in texts(page, "What is taken for what")
    assert document.html(page)


def test_every_class_has_its_row_the_worst_first_and_a_long_table_is_folded():
    found = answered(n_classes=8, photos=300, sharpness=1.0)
    table = next(part for part in parts(page_of(found), "Classes") if isinstance(part, Table))
    predicted = found.probabilities.argmax(axis=1)
    expected = classification.per_class(found.labels, predicted, found.classes).set_index("class")
    recalls = [float(row[3].removesuffix("\u00a0%")) for row in table.rows]
    assert recalls == sorted(recalls) and not table.folded
    for name, photos, right, *_, taken_for in table.rows:
        row = expected.loc[name]
        assert (int(photos), int(right)) == (row["photos"], row["correct"])
        assert taken_for == f"{row['confused_with']} ({row['confused']})"
    many = answered(n_classes=21)
    assert next(part for part in parts(page_of(many), "Classes") if isinstance(part, Table)).folded


def test_a_class_without_photos_has_dashes():
    labels, probabilities = world(5, 100)
    found = answered(labels=np.where(labels == 3, 2, labels), probabilities=probabilities, photos=100)
    table = next(part for part in parts(page_of(found), "Classes") if isinstance(part, Table))
    (row,) = [row for row in table.rows if row[0] == "flower 3"]
    assert row[1:4] == ["0", "0", "–"] and row[5:] == ["–", "–"]


def test_confused_pairs_are_shown_by_their_surest_photos():
    found = answered(n_classes=3, photos=400, sharpness=0.5)
    galleries = [part for part in parts(page_of(found), "What is taken for what") if isinstance(part, Gallery)]
    predicted = found.probabilities.argmax(axis=1)
    assert len(galleries) == 6  # all pairs of three classes
    for gallery in galleries:
        label, named, count = re.match(r"flower (\d) taken for flower (\d): (\d+) of", gallery.title).groups()
        rows = np.flatnonzero((found.labels == int(label)) & (predicted == int(named)))
        assert len(rows) == int(count) > 4 == len(gallery.cards)
        surest = rows[np.argsort(-found.probabilities[rows].max(axis=1))][:4]
        assert [card.lines[1] for card in gallery.cards] == [found.files[row] for row in surest]


def test_a_mistake_is_a_photo_and_its_heat_with_what_it_is_and_what_it_was_taken_for():
    found = answered(sharpness=1.0)
    (gallery,) = [part for part in parts(page_of(found), "Surest mistakes") if isinstance(part, Gallery)]
    assert len(gallery.cards) == 3
    for card in gallery.cards:
        row = found.files.index(card.lines[2])
        named = found.probabilities[row].argmax()
        assert card.lines[0] == f"flower {found.labels[row]}"
        assert card.lines[1].startswith(f"taken for flower {named}, {100 * found.probabilities[row].max():.1f}")
        assert card.image and card.beside and card.image != card.beside


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({}, "As trained, it was 6.1 % and the model surer than it should be: all logits are divided by a temperature"),
        ({"temperature": 0.7}, "the model less sure than it could be"),
        ({"temperature": 0.99}, "the model about as sure as it should be"),
        ({"validation_held_out": False}, "No temperature was fitted"),
        ({}, "Answers of at least 62.0 % are called sure"),
        ({}, "87.5 % are sure, and 95.3 % of those are right"),
        ({"sure": 0.0, "sure_accuracy": None}, "No answer on the test photos is called sure"),
    ],
)
def test_what_the_temperature_means_is_said(calibration, said):
    text = texts(page_of(answered(), **calibration), "How sure it is")
    assert said in text and "2.3 %" in text


def test_slices_hold_every_photo_and_a_size_that_all_have_is_a_line():
    page = page_of(answered())
    tables = [part for part in parts(page, "Where it is better and worse") if isinstance(part, Table)]
    assert [table.header[0] for table in tables] == ["training photos of the class", "brightness"]
    assert [sum(int(row[1]) for row in table.rows) for table in tables] == [120, 120]
    assert tables[1].rows[0][0].startswith("10 – ") and tables[1].rows[-1][0].endswith(" – 90\u00a0%")
    assert "Short side in pixels: 227 for every photo." in texts(page, "Where it is better and worse")
    sized = page_of(answered(short_side=np.arange(200, 320)))
    assert "for every photo" not in texts(sized, "Where it is better and worse")


def test_equal_predictions_give_equal_pages_and_names_are_not_markup():
    names = ["<b>rose</b>", "向日葵", "a & b", "NA", "x"]
    one, two = (document.html(page_of(answered(classes=names))) for _ in range(2))
    assert one == two
    assert "<b>" not in one and "&lt;b&gt;rose" in one and "向日葵" in one
    assert one != document.html(page_of(answered(classes=names), gallery=2))
