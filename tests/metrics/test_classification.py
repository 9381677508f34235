"""Scores and tables, compared with scikit-learn's."""

import numpy as np
import pytest
from reporting_world import world
from sklearn import metrics as sk

from flowers.metrics import bootstrap, classification


@pytest.mark.parametrize("n_classes", [2, 9])
def test_scores_are_those_of_scikit_learn(n_classes):
    labels, probabilities = world(n_classes, 300, sharpness=1.0)
    predicted = probabilities.argmax(axis=1)
    scores = classification.scores(labels, probabilities)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert scores["mean_per_class_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert scores["log_loss"] == pytest.approx(sk.log_loss(labels, exact), rel=1e-5)
    if n_classes > 5:
        assert scores["top5_accuracy"] == pytest.approx(sk.top_k_accuracy_score(labels, probabilities, k=5))
    else:
        assert "top5_accuracy" not in scores


def test_means_over_classes_leave_out_classes_without_images():
    labels, probabilities = world(8, 200, sharpness=1.0)
    keep = (labels != 3) & (labels != 6)
    labels, probabilities = labels[keep], probabilities[keep]
    predicted = probabilities.argmax(axis=1)
    assert {3, 6} & set(predicted)  # although they are predicted
    scores = classification.scores(labels, probabilities)
    present = np.unique(labels)
    recalls = [(predicted[labels == k] == k).mean() for k in present]
    assert scores["mean_per_class_accuracy"] == pytest.approx(np.mean(recalls))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, labels=present, average="macro"))
    assert classification.mean_per_class_accuracy(labels, predicted, 8) == pytest.approx(np.mean(recalls))


def test_a_tie_goes_to_the_lower_class_number():
    flat = np.full((8, 8), 1 / 8, dtype=np.float32)
    scores = classification.scores(np.arange(8), flat)
    assert scores["accuracy"] == 1 / 8  # class 0 alone
    assert scores["top5_accuracy"] == 5 / 8  # classes 0 ... 4


def test_log_loss_of_a_probability_of_zero_is_finite():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert classification.scores(np.array([0, 1]), probabilities)["log_loss"] == 0
    assert classification.scores(np.array([1, 0]), probabilities)["log_loss"] == pytest.approx(15.94, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([0, 1, 1]), np.full((2, 2), 0.5), r"\(n,\) and \(n, c\)"),
        (np.array([], dtype=int), np.zeros((0, 2)), "n > 0"),
        (np.array([0, 2]), np.full((2, 2), 0.5), "from 0 to 1"),
        (np.array([0, -1]), np.full((2, 2), 0.5), "from 0 to 1"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), "not a finite number"),
    ],
)
def test_invalid_labels_or_probabilities_raise_an_error(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.scores(labels, probabilities)
    with pytest.raises(ValueError, match=message):
        bootstrap.intervals(labels, probabilities, samples=100, seed=0)


def test_the_per_class_table_is_that_of_scikit_learn():
    labels, probabilities = world(5, 120, sharpness=1.0)
    predicted = probabilities.argmax(axis=1)
    table = classification.per_class(labels, predicted, list("abcde"))
    precision, recall, f1, photos = sk.precision_recall_fscore_support(labels, predicted)
    assert list(table["class"]) == list("abcde")
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["recall"], recall)
    np.testing.assert_allclose(table["f1"], f1)
    np.testing.assert_array_equal(table["photos"], photos)


def test_the_per_class_table_has_the_most_frequent_confusion_and_nan_if_undefined():
    labels = np.array([0, 0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 2, 2, 3, 3, 1, 1])
    table = classification.per_class(labels, predicted, ["daisy", "rose", "tulip", "iris", "lily"]).set_index("class")
    assert list(table["confused_with"]) == ["tulip", "", "", "", ""]  # as often as iris, and before it
    assert list(table["confused"]) == [2, 0, 0, 0, 0]
    assert table.loc["rose", ["recall", "precision", "f1"]].tolist() == [1, 1, 1]
    assert np.isnan(table.loc["tulip", "recall"]) and np.isnan(table.loc["tulip", "f1"])
    assert table.loc["tulip", "precision"] == 0
    assert np.isnan(table.loc["lily", "precision"])


def test_the_confusion_matrix_has_a_row_per_true_class():
    table = classification.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), ["daisy", "rose", "NA"])
    assert table.loc["daisy", "rose"] == 1 and table.loc["rose", "daisy"] == 0
    assert table.to_numpy().sum() == 3 and table.shape == (3, 3)


def test_predictions_out_of_range_raise_an_error():
    with pytest.raises(ValueError, match="from 0 to 1"):
        classification.confusion(np.array([0, 1]), np.array([0, 2]), ["a", "b"])


def test_softmax_of_large_logits_is_finite():
    found = classification.softmax(np.array([[1000.0, 0.0, -1000.0], [1.0, 1.0, 1.0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    assert found.dtype == np.float32
