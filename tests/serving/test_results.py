"""Predictions from probabilities: as a list and as a table."""

import numpy as np
import pytest

from flowers.model.predicted import predicted
from flowers.serving.results import predictions, table

CLASSES = ("NA", "café au lait", "rose")
ROWS = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.2, 0.4]], np.float32)
# From a model whose border is a ratio of 3.
TOLD = predicted(ROWS, np.array([[1, -2, 4.5], [1, -2, 0], [1, 3, 2]], np.float32), 3.0)


def test_each_image_has_a_row():
    found = table(CLASSES, predicted(ROWS), threshold=0.5)
    assert list(found.columns) == ["label", "probability", "unsure", "known", "novelty", "nearest", "best"]
    assert list(found["label"]) == ["café au lait", "rose", "NA"]  # the first of equally probable classes
    assert list(found["probability"]) == pytest.approx([0.5, 0.8, 0.4])
    assert found["probability"].dtype == np.float64
    assert [each["label"] for each in found["best"][0]] == ["café au lait", "rose", "NA"]
    assert [each["probability"] for each in found["best"][0]] == pytest.approx([0.5, 0.3, 0.2])
    assert [each["label"] for each in found["best"][2]] == ["NA", "rose", "café au lait"]


@pytest.mark.parametrize(
    ("threshold", "unsure"),
    [(0.5, [False, False, True]), (0.51, [True, False, True]), (None, [False] * 3)],
)
def test_confidence_is_low_below_the_threshold(threshold, unsure):
    found = table(CLASSES, predicted(ROWS), threshold)["unsure"]
    assert list(found) == unsure and found.dtype == bool


def test_at_a_threshold_of_one_even_a_certain_prediction_has_low_confidence():
    certain = np.array([[1, 0, 0]], np.float32)
    assert [bool(table(CLASSES, predicted(certain), threshold)["unsure"][0]) for threshold in (0.9999, 1.0)] == [
        False,
        True,
    ]


def test_every_class_adds_a_column_per_class():
    found = table(CLASSES, predicted(ROWS), None, every_class=True)
    assert list(found.columns)[7:] == ["p(NA)", "p(café au lait)", "p(rose)"]
    np.testing.assert_array_equal(found.iloc[:, 7:].to_numpy(), ROWS.astype(np.float64))


def test_only_the_five_most_probable_classes_are_named():
    values = np.arange(7, dtype=np.float32)[None] / 21
    (best,) = table([f"class {number}" for number in range(7)], predicted(values), None)["best"]
    assert [each["label"] for each in best] == [f"class {number}" for number in (6, 5, 4, 3, 2)]
    values = np.resize(np.array([0.005, 0.015], np.float32), (1, 100))
    (best,) = table([f"class {number}" for number in range(100)], predicted(values), None)["best"]
    assert [each["label"] for each in best] == [f"class {number}" for number in (1, 3, 5, 7, 9)]


def test_an_unreadable_image_has_no_class():
    values = np.stack([ROWS[0], np.full(3, np.nan, np.float32)])
    found = table(CLASSES, predicted(values), 0.9, every_class=True)
    assert list(found["label"].isna()) == [False, True]
    assert list(found["unsure"]) == [True, False] and found["best"][1] == []
    assert found.iloc[1][["probability", "p(NA)"]].isna().all()


def test_no_images_are_an_empty_table_with_the_same_columns():
    some, none = table(CLASSES, predicted(ROWS), 0.5, True), table(CLASSES, predicted(ROWS[:0]), 0.5, True)
    assert len(none) == 0 and list(none.dtypes.items()) == list(some.dtypes.items())


def test_the_list_and_the_table_are_equal():
    each = predictions(CLASSES, TOLD.spread([0, 1, 2], 4), 0.45)
    assert each[3] is None
    names = ("label", "probability", "unsure", "known", "novelty", "nearest", "best")
    rows = [tuple(getattr(found, name) for name in names) for found in each[:3]]
    assert rows == list(table(CLASSES, TOLD, 0.45)[list(names)].itertuples(index=False, name=None))
    assert [type(value) for value in rows[0][1:5]] == [float, bool, bool, float]  # for JSON


def test_an_image_above_the_border_is_unknown_and_has_its_nearest_classes():
    found = table(CLASSES, TOLD, 0.5)
    assert list(found["known"]) == [True, False, True] and list(found["novelty"]) == [-1.5, 2.0, 0.0]
    assert list(found["nearest"]) == [["rose", "NA", "café au lait"], ["NA", "rose", "café au lait"]] * 1 + [
        ["café au lait", "rose", "NA"]
    ]


def test_a_model_without_a_detector_cannot_tell():
    found = table(CLASSES, predicted(ROWS), 0.5)
    assert list(found["known"].isna()) == [True] * 3 and list(found["nearest"]) == [[]] * 3
    assert predictions(CLASSES, predicted(ROWS), 0.5)[0].known is None
