"""The page on an evaluation, for given predictions."""

import re

import numpy as np
import pandas as pd
import pytest
from reporting_world import world

from flowers.metrics import classification
from flowers.reporting import document, evaluation_page
from flowers.reporting.document import Gallery, Table
from flowers.training.subsets import Subset

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (900).to_bytes(4) + bytes(8)
FIGURES = dict.fromkeys(("curves", "confusion", "per_class", "reliability", "novelty"), PNG)
CALIBRATION = {
    "validation_held_out": True,
    "temperature": 1.4211,
    "expected_calibration_error": 0.0231,
    "expected_calibration_error_without_temperature": 0.0614,
    "threshold": 0.62,
    "sure": 0.875,
    "sure_accuracy": 0.953,
}


UNKNOWN = {
    "kept": 0.95,
    "test_class_left_out": {"auroc": 0.912, "fpr95": 0.3},
    "unknown": {"images": 40, "refused": 0.8, "auroc": 0.953, "fpr95": 0.2, "auroc_of_probability": 0.871},
}


def evaluated(n_classes=5, images=120, sharpness=2.0, right=False, **changes) -> evaluation_page.Tested:
    labels, probabilities = world(n_classes, images, sharpness=sharpness)
    if right:
        labels = probabilities.argmax(axis=1)
    values = {
        "labels": labels,
        "probabilities": probabilities,
        "short_side": np.full(images, 227),
        "classes": [f"flower {number}" for number in range(n_classes)],
    } | changes
    files = [f"{label}/{number}.jpg" for number, label in enumerate(labels)]
    table = pd.DataFrame({"path": files, "width": "900", "height": values["short_side"].astype(str)})
    test = Subset(table, values["labels"], values["classes"])
    brightness, training_images = np.linspace(0.1, 0.9, images), 10 + np.arange(n_classes)
    return evaluation_page.Tested(test, values["probabilities"], brightness, training_images)


def page_of(found: evaluation_page.Tested, gallery=3, unknown=UNKNOWN, **calibration) -> document.Document:
    scores = classification.scores(found.images.labels, found.probabilities)
    intervals = {name: (0.9 * value, 1.1 * value) for name, value in scores.items()}
    written = evaluation_page.Written(scores, intervals, 1000, CALIBRATION | calibration, unknown, FIGURES)
    surest, shown = evaluation_page.shown(found.images.labels, found.probabilities, gallery)
    pixels = {row: np.full((224, 224, 3), row % 256, np.uint8) for row in shown}
    return evaluation_page.document(found, written, pixels, {row: np.eye(7, dtype=np.float32) for row in surest})


def parts(page: document.Document, title: str) -> list:
    (section,) = [section for section in page.sections if section.title == title]
    return [*section.parts]


def texts(page: document.Document, title: str) -> str:
    return " ".join(part for part in parts(page, title) if isinstance(part, str)).replace("\u00a0", " ")


def test_the_first_lines_are_the_accuracy_and_the_lowest_recall():
    found = evaluated()
    right = found.probabilities.argmax(axis=1) == found.images.labels
    recalls = [right[found.images.labels == number].mean() for number in range(5)]
    first, second = (line.replace("\u00a0", " ") for line in page_of(found).lead)
    assert f"{right.mean():.1%}".replace("%", " %") in first
    assert second.startswith(f"Lowest recall: flower {np.argmin(recalls)} (")


def test_a_model_without_errors_has_a_page_without_them():
    page = page_of(evaluated(right=True))
    assert page.lead[1] == "All images are classified correctly."
    assert "Most confident errors" not in [section.title for section in page.sections]
    assert "No image is predicted as another class." in texts(page, "Confusions")
    assert document.html(page)


def test_every_class_has_a_row_in_order_of_recall_and_a_long_table_is_folded():
    found = evaluated(n_classes=8, images=300, sharpness=1.0)
    table = next(part for part in parts(page_of(found), "Classes") if isinstance(part, Table))
    predicted = found.probabilities.argmax(axis=1)
    expected = classification.per_class(found.images.labels, predicted, found.images.classes).set_index("class")
    recalls = [float(row[3].removesuffix("\u00a0%")) for row in table.rows]
    assert recalls == sorted(recalls) and not table.folded
    for name, images, correct, *_, confusion in table.rows:
        row = expected.loc[name]
        assert (int(images), int(correct)) == (row["photos"], row["correct"])
        assert confusion == f"{row['confused_with']} ({row['confused']})"
    many = evaluated(n_classes=21)
    assert next(part for part in parts(page_of(many), "Classes") if isinstance(part, Table)).folded


def test_a_class_without_images_has_dashes():
    labels, probabilities = world(5, 100)
    found = evaluated(labels=np.where(labels == 3, 2, labels), probabilities=probabilities, images=100)
    table = next(part for part in parts(page_of(found), "Classes") if isinstance(part, Table))
    (row,) = [row for row in table.rows if row[0] == "flower 3"]
    assert row[1:4] == ["0", "0", "–"] and row[5:] == ["–", "–"]


def test_confused_pairs_are_shown_by_their_most_confident_images():
    found = evaluated(n_classes=3, images=400, sharpness=0.5)
    galleries = [part for part in parts(page_of(found), "Confusions") if isinstance(part, Gallery)]
    predicted = found.probabilities.argmax(axis=1)
    assert len(galleries) == 6  # all pairs of three classes
    for gallery in galleries:
        label, named, count = re.match(r"flower (\d) predicted as flower (\d): (\d+) of", gallery.title).groups()
        rows = np.flatnonzero((found.images.labels == int(label)) & (predicted == int(named)))
        assert len(rows) == int(count) > 4 == len(gallery.cards)
        surest = rows[np.argsort(-found.probabilities[rows].max(axis=1))][:4]
        assert [card.lines[1] for card in gallery.cards] == [found.images.table["path"][row] for row in surest]


def test_an_error_is_shown_with_its_overlay_and_both_classes():
    found = evaluated(sharpness=1.0)
    (gallery,) = [part for part in parts(page_of(found), "Most confident errors") if isinstance(part, Gallery)]
    assert len(gallery.cards) == 3
    for card in gallery.cards:
        row = found.images.table["path"].tolist().index(card.lines[2])
        named = found.probabilities[row].argmax()
        assert card.lines[0] == f"flower {found.images.labels[row]}"
        assert card.lines[1].startswith(f"predicted flower {named}, {100 * found.probabilities[row].max():.1f}")
        assert card.image and card.beside and card.image != card.beside


@pytest.mark.parametrize(
    ("calibration", "sentence"),
    [
        (
            {},
            "As trained, the error was 6.1 % and the model was overconfident. All logits are divided by a temperature",
        ),
        ({"temperature": 0.7}, "the model was underconfident"),
        ({"temperature": 0.99}, "the model was well calibrated"),
        ({"validation_held_out": False}, "No temperature was fitted"),
        ({}, "Predictions below 62.0 % have low confidence"),
        ({}, "87.5 % of the test predictions are above it, and 95.3 % of those are correct."),
        ({"sure": 0.0, "sure_accuracy": None}, "All test predictions have low confidence"),
    ],
)
def test_calibration_is_described(calibration, sentence):
    text = texts(page_of(evaluated(), **calibration), "Calibration")
    assert sentence in text and "2.3 %" in text


def test_groups_hold_every_image_and_an_equal_size_is_one_line():
    page = page_of(evaluated())
    tables = [part for part in parts(page, "Accuracy by group") if isinstance(part, Table)]
    assert [table.header[0] for table in tables] == ["training images of the class", "brightness"]
    assert [sum(int(row[1]) for row in table.rows) for table in tables] == [120, 120]
    assert tables[1].rows[0][0].startswith("10 – ") and tables[1].rows[-1][0].endswith(" – 90\u00a0%")
    assert "Short side in pixels: 227 for every image." in texts(page, "Accuracy by group")
    sized = page_of(evaluated(short_side=np.arange(200, 320)))
    assert "for every image" not in texts(sized, "Accuracy by group")


def test_equal_predictions_give_equal_pages_and_names_are_escaped():
    names = ["<b>rose</b>", "向日葵", "a & b", "NA", "x"]
    one, two = (document.html(page_of(evaluated(classes=names))) for _ in range(2))
    assert one == two
    assert "<b>" not in one and "&lt;b&gt;rose" in one and "向日葵" in one
    assert one != document.html(page_of(evaluated(classes=names), gallery=2))
