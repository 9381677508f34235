"""Scores, intervals and tables, against scikit-learn's and against a bootstrap written the slow way."""

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from flowers.reporting import metrics


def world(n_classes, photos, seed=0, sharpness=2.5):
    """Labels (photos,) and probabilities (photos, n_classes) of a fair classifier; every class has photos."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=photos - n_classes)])
    logits = rng.normal(size=(photos, n_classes)).astype(np.float32)
    logits[np.arange(photos), labels] += sharpness
    exponents = np.exp(logits)
    return labels, exponents / exponents.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 5, 9])
def test_scores_are_those_of_scikit_learn(n_classes):
    labels, probabilities = world(n_classes, 300, sharpness=1.0)
    predicted = probabilities.argmax(axis=1)
    scores = metrics.scores(labels, probabilities)
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


def test_classes_without_photos_are_left_out_of_means_over_classes():
    labels, probabilities = world(8, 200, sharpness=1.0)
    keep = (labels != 3) & (labels != 6)
    labels, probabilities = labels[keep], probabilities[keep]
    predicted = probabilities.argmax(axis=1)
    assert {3, 6} & set(predicted)  # though they are predicted
    scores = metrics.scores(labels, probabilities)
    present = np.unique(labels)
    recalls = [(predicted[labels == k] == k).mean() for k in present]
    assert scores["mean_per_class_accuracy"] == pytest.approx(np.mean(recalls))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, labels=present, average="macro"))
    assert metrics.mean_per_class_accuracy(labels, predicted, 8) == pytest.approx(np.mean(recalls))


def test_a_tie_goes_to_the_lower_class_number():
    flat = np.full((8, 8), 1 / 8, dtype=np.float32)
    scores = metrics.scores(np.arange(8), flat)
    assert scores["accuracy"] == 1 / 8  # class 0 alone
    assert scores["top5_accuracy"] == 5 / 8  # classes 0 ... 4


def test_a_certain_mistake_has_a_finite_log_loss():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert metrics.scores(np.array([0, 1]), probabilities)["log_loss"] == 0
    assert metrics.scores(np.array([1, 0]), probabilities)["log_loss"] == pytest.approx(15.94, abs=0.01)


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
def test_what_cannot_be_scored_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metrics.scores(labels, probabilities)
    with pytest.raises(ValueError, match=message):
        metrics.intervals(labels, probabilities, samples=100, seed=0)


def slow_bootstrap(labels, probabilities, samples, seed):
    """The definition: draw photos within each class, score them, take percentiles."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    drawn = []
    for _ in range(samples):
        chosen = np.concatenate([rng.choice(photos, len(photos)) for photos in classes])
        drawn.append(metrics.scores(labels[chosen], probabilities[chosen]))
    return {name: np.quantile([scores[name] for scores in drawn], (0.025, 0.975)) for name in drawn[0]}


def with_an_absent_class():
    labels, probabilities = world(7, 150, sharpness=1.2)
    keep = labels != 2
    return labels[keep], probabilities[keep]


def lopsided():
    """A large easy class, some of it taken for a small hard one: what is drawn across classes would differ widely."""
    labels = np.array([0] * 150 + [1] * 10)
    second = np.r_[np.full(140, 0.01), np.full(10, 0.9), np.full(4, 0.55), np.full(6, 0.005)]
    return labels, np.stack([1 - second, second], axis=1).astype(np.float32)


@pytest.mark.parametrize("make", [with_an_absent_class, lopsided])
def test_intervals_are_those_of_a_bootstrap_written_out(make):
    labels, probabilities = make()
    slow = slow_bootstrap(labels, probabilities, 3000, seed=1)
    fast = metrics.intervals(labels, probabilities, samples=20_000, seed=2)
    assert list(fast) == list(slow)
    for name, (low, high) in fast.items():
        width = slow[name][1] - slow[name][0]
        assert abs(low - slow[name][0]) < 0.1 * width, name
        assert abs(high - slow[name][1]) < 0.1 * width, name


def test_resampling_is_within_classes():
    """One class always right, the other never: drawn at large accuracy would vary, within classes it cannot."""
    labels = np.array([0] * 50 + [1] * 50)
    probabilities = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (100, 1))
    found = metrics.intervals(labels, probabilities, samples=500, seed=0)
    assert found["accuracy"] == (0.5, 0.5)


def test_intervals_hold_the_score_and_narrow_with_lower_confidence():
    labels, probabilities = world(6, 400, sharpness=1.5)
    scores = metrics.scores(labels, probabilities)
    wide = metrics.intervals(labels, probabilities, 2000, 0)
    narrow = metrics.intervals(labels, probabilities, 2000, 0, confidence=0.5)
    assert list(wide) == list(scores)
    for name, score in scores.items():
        assert wide[name][0] < narrow[name][0] < score < narrow[name][1] < wide[name][1]


def test_one_seed_gives_one_answer_and_another_another():
    labels, probabilities = world(6, 400)
    first = metrics.intervals(labels, probabilities, 500, seed=3)
    assert metrics.intervals(labels, probabilities, 500, seed=3) == first
    assert metrics.intervals(labels, probabilities, 500, seed=4) != first


def test_drawing_in_parts_changes_nothing_but_the_draws(monkeypatch):
    labels, probabilities = world(6, 400)
    whole = metrics.intervals(labels, probabilities, 4000, seed=0)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    for name, limits in metrics.intervals(labels, probabilities, 4000, seed=0).items():
        assert limits == pytest.approx(whole[name], abs=0.15 * (whole[name][1] - whole[name][0])), name


def test_ten_thousand_samples_of_the_largest_test_set_are_quick():
    labels, probabilities = world(102, 6149, sharpness=3.5)
    start = time.process_time()
    metrics.intervals(labels, probabilities, samples=10_000, seed=0)
    assert time.process_time() - start < 6  # about 1 s; the slack is for busy machines


def test_per_class_table_is_scikit_learns():
    labels, probabilities = world(5, 120, sharpness=1.0)
    predicted = probabilities.argmax(axis=1)
    table = metrics.per_class(labels, predicted, list("abcde"))
    precision, recall, f1, photos = sk.precision_recall_fscore_support(labels, predicted)
    assert list(table["class"]) == list("abcde")
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["recall"], recall)
    np.testing.assert_allclose(table["f1"], f1)
    np.testing.assert_array_equal(table["photos"], photos)


def test_per_class_names_the_worst_confusion_and_leaves_the_undefined_empty():
    labels = np.array([0, 0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 2, 2, 3, 3, 1, 1])
    table = metrics.per_class(labels, predicted, ["daisy", "rose", "tulip", "iris", "lily"]).set_index("class")
    assert list(table["confused_with"]) == ["tulip", "", "", "", ""]  # as often as iris, and before it
    assert list(table["confused"]) == [2, 0, 0, 0, 0]
    assert table.loc["rose", ["recall", "precision", "f1"]].tolist() == [1, 1, 1]
    assert np.isnan(table.loc["tulip", "recall"]) and np.isnan(table.loc["tulip", "f1"])
    assert table.loc["tulip", "precision"] == 0
    assert np.isnan(table.loc["lily", "precision"])


def test_confusion_has_the_true_class_down_and_counts_every_photo():
    table = metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), ["daisy", "rose", "NA"])
    assert table.loc["daisy", "rose"] == 1 and table.loc["rose", "daisy"] == 0
    assert table.to_numpy().sum() == 3 and table.shape == (3, 3)


def test_predictions_out_of_range_are_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.confusion(np.array([0, 1]), np.array([0, 2]), ["a", "b"])
