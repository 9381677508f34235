"""Training on stored activations: what is learnt, which epoch is kept, and that it is the same every time."""

import os
import subprocess
import sys

import numpy as np
import pytest

from flowers.network import backend, keras_model, training
from flowers.network.training import Best, Schedule, TrainingSet, ValidationSet


@pytest.fixture(autouse=True)
def settled():
    backend.settle(0)


def schedule(**changes) -> Schedule:
    settings = {
        "phase": "head",
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "patience": 100,
        "seed": 0,
    }
    return Schedule(**settings | changes)


def examples(rows, labels, weights=None) -> TrainingSet:
    """A training set with one view a photo."""
    labels = np.array(labels, np.int32)
    weights = np.ones(len(labels), np.float32) if weights is None else np.array(weights, np.float32)
    return TrainingSet(np.array(rows, np.float32), np.arange(len(labels))[:, None], labels, weights)


def line(start=(0.0, 1.0)):
    """A model with one number to learn, `slope`: logits (0, slope * a + weight * b) of an example (a, b)."""
    keras = backend.keras()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False, name="line")])
    model.layers[0].kernel.assign(np.array([[0, start[0]], [0, start[1]]], np.float32))
    return model


def slope(tensors: dict[str, np.ndarray]) -> float:
    kernel = tensors["line/kernel"]
    return float(kernel[0, 1] - kernel[0, 0])


# Each step of Adam moves the slope by nearly twice the rate, so by nearly 0.2 here. The first example of the validation
# is right once the slope is above 0.9, the second one as long as it is below 1.5; the loss is least at 1.2.
RISING = examples([(1, 0)], [1])
BETWEEN = ValidationSet(np.array([(1, -0.9), (1, -1.5)], np.float32), np.array([1, 0], np.int32))
RATE = {"learning_rate": 0.1}


def random_set(photos: int, classes: int, seed: int = 0) -> TrainingSet:
    random = np.random.default_rng(seed)
    return examples(random.normal(size=(photos, 2048)), random.integers(0, classes, photos))


def test_one_batch_is_learnt_by_heart():
    data = random_set(8, 3)
    model = keras_model.head(3, (16,), 0.0, seed=0)
    rows = training.train(model, data, None, schedule(epochs=40), Best())
    assert 0.5 < rows[0]["loss"] < 10
    assert rows[-1]["loss"] < 0.02 and rows[-1]["accuracy"] == 1
    assert (training.logits(model, data.examples).argmax(axis=1) == data.labels).all()


def test_the_best_epoch_is_kept_and_patience_ends_the_phase():
    best, model = Best(), line()
    rows = training.train(model, RISING, BETWEEN, schedule(**RATE, epochs=30, patience=3), best)
    assert [row["val_mean_per_class_accuracy"] for row in rows] == [0.5] * 4 + [1.0] * 3 + [0.5] * 2
    assert best.epoch == 5 == int(np.argmin([row["val_loss"] for row in rows]))
    assert best.score == (1.0, -rows[5]["val_loss"])
    assert slope(best.weights) == pytest.approx(1.2, abs=0.07)
    assert slope(keras_model.get_tensors(model)) == pytest.approx(1.7, abs=0.07)  # where the training had come to


def test_accuracy_comes_before_loss():
    # The second example is wrong from the start; the first turns right only when the second one's loss is terrible.
    validation = ValidationSet(np.array([(1, -1.1), (10, 0)], np.float32), np.array([1, 0], np.int32))
    best = Best()
    rows = training.train(line(), RISING, validation, schedule(**RATE, epochs=8), best)
    losses = [row["val_loss"] for row in rows]
    assert losses == sorted(losses) and best.epoch == 5


def test_of_equal_epochs_the_first_one_is_kept():
    unmoved = ValidationSet(np.array([(0, 1), (0, -1)], np.float32), np.array([1, 0], np.int32))
    best = Best()
    rows = training.train(line(), RISING, unmoved, schedule(**RATE, epochs=30, patience=4), best)
    assert len(rows) == 5 and best.epoch == 0
    assert slope(best.weights) == pytest.approx(0.2, abs=0.07)


def test_without_validation_all_epochs_are_run_and_the_last_one_is_kept():
    best, model = Best(), line()
    rows = training.train(model, RISING, None, schedule(**RATE, epochs=7, patience=1), best)
    assert [row["epoch"] for row in rows] == list(range(7)) and best.epoch == 6
    assert not any(name.startswith("val") for row in rows for name in row)
    assert slope(best.weights) == slope(keras_model.get_tensors(model)) == pytest.approx(1.4, abs=0.07)


def test_a_second_phase_counts_on_and_must_beat_the_first():
    best = Best()
    first = training.train(line(), RISING, BETWEEN, schedule(**RATE, epochs=9), best)
    kept = best.weights
    worse = schedule(**RATE, phase="fine_tune", epochs=30, patience=3)
    rows = training.train(line((1.5, 1.0)), RISING, BETWEEN, worse, best, first_epoch=len(first))
    assert [row["epoch"] for row in rows] == [9, 10, 11, 12] and {row["phase"] for row in rows} == {"fine_tune"}
    assert best.epoch == 5 and best.weights is kept

    better = line((1.0, 0.0))  # without the second weight's share both examples pull the same way
    easy = ValidationSet(np.array([(1, 0), (-1, 0)], np.float32), np.array([1, 0], np.int32))
    training.train(better, RISING, easy, schedule(**RATE, phase="fine_tune", epochs=3), best, first_epoch=9)
    assert best.epoch == 11 and slope(best.weights) == pytest.approx(1.6, abs=0.07)


def test_every_epoch_is_handed_on_as_soon_as_it_is_there():
    class Stop(Exception):
        pass

    seen = []

    def on_epoch(row) -> None:
        seen.append(row)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        training.train(line(), RISING, BETWEEN, schedule(**RATE), Best(), first_epoch=4, on_epoch=on_epoch)
    assert [row["epoch"] for row in seen] == [4, 5, 6]
    names = "epoch phase learning_rate loss accuracy val_loss val_accuracy val_mean_per_class_accuracy"
    assert list(seen[0]) == names.split()


def test_a_loss_that_is_no_number_is_an_error():
    data = examples([(1e30, 1e30), (-1e30, 1e30)], [1, 1])
    with pytest.raises(training.Diverged, match=r"training loss .* epoch 3"):
        training.train(line((1e30, 1.0)), data, None, schedule(), Best(), first_epoch=3)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_weights_that_give_no_numbers_are_never_the_best():
    best = Best()
    diverging = schedule(learning_rate=1e38, epochs=1)  # the loss is that before the only step
    far = ValidationSet(np.array([(1e10, -1e10)], np.float32), np.array([0], np.int32))
    with pytest.raises(training.Diverged, match="validation loss"):
        training.train(line(), RISING, far, diverging, best)
    assert best.weights is None


def test_weights_balance_classes_and_keep_the_mean():
    labels = np.array([0] * 6 + [1] * 3 + [3], np.int32)  # class 2 has no photo
    weights = training.class_weights(labels, 4)
    sums = [weights[labels == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, 10 / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1) and weights.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "smoothing", "wanted"), [((3, 1), 0.0, 0.75), ((1, 0), 0.2, 0.9), ((3, 1), 0.2, 0.7)]
)
def test_weights_and_smoothing_decide_what_is_learnt_of_a_contradiction(weights, smoothing, wanted):
    """The same example under both labels: the optimum is the weighed mean of the smoothed targets."""
    data = examples([(1, 0), (1, 0)], [1, 0], weights)
    model = line()
    training.train(model, data, None, schedule(learning_rate=0.05, epochs=150, label_smoothing=smoothing), Best())
    assert training.softmax(training.logits(model, data.examples))[0, 1] == pytest.approx(wanted, abs=0.01)


def test_weight_decay_shrinks_kernels_and_not_biases():
    model = keras_model.head(2, (), 0.0, seed=0)
    model.get_layer("head_logits").bias.assign([1.0, 2.0])
    before = keras_model.get_tensors(model)
    data = examples(np.ones((4, 2048)), [0, 1, 0, 1], np.zeros(4))  # of no weight: nothing else moves anything
    training.train(model, data, None, schedule(epochs=5, batch_size=2, weight_decay=0.5), Best())
    after = keras_model.get_tensors(model)
    np.testing.assert_allclose(
        after["head_logits/kernel"], before["head_logits/kernel"] * (1 - 0.01 * 0.5) ** 10, rtol=1e-4
    )
    np.testing.assert_array_equal(after["head_logits/bias"], [1, 2])


class Watched:
    """Examples that note which rows are asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.asked = values, []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows):
        self.asked.append(np.array(rows))
        return self.values[rows]


def test_an_epoch_sees_every_photo_once_in_one_of_its_views():
    watched = Watched(np.ones((21, 2), np.float32))
    views = np.random.default_rng(1).permutation(21).reshape(7, 3)
    data = TrainingSet(watched, views, np.ones(7, np.int32), np.ones(7, np.float32))
    training.train(line(), data, None, schedule(epochs=20, batch_size=3), Best())
    batches = [rows for rows in watched.asked if len(rows)]
    assert [len(rows) for rows in batches] == [3, 3, 1] * 20
    photo_of = {row: photo for photo, of_photo in enumerate(views.tolist()) for row in of_photo}
    epochs = [np.concatenate(batches[start : start + 3]).tolist() for start in range(0, 60, 3)]
    orders = [tuple(photo_of[row] for row in rows) for rows in epochs]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 20  # a new order every time
    assert {row for rows in epochs for row in rows} == set(range(21))


def test_labels_and_weights_follow_their_photos_through_the_shuffle():
    """The loss of an epoch that learns nothing can be reckoned, and no other order of labels or weights gives it."""
    random = np.random.default_rng(0)
    values, labels, weights = random.normal(size=12), np.arange(12) % 2, random.uniform(0, 3, 12)
    data = examples(np.stack([values, np.zeros(12)], axis=1), labels, weights)
    (row,) = training.train(line((1.0, 0.0)), data, None, schedule(epochs=1, batch_size=5, learning_rate=1e-9), Best())
    losses = np.log1p(np.exp(np.where(labels, -values, values)))
    assert row["loss"] == pytest.approx((weights * losses).mean(), rel=1e-5)
    assert row["accuracy"] == pytest.approx(((values > 0) == labels).mean())


def test_accuracy_and_loss_are_those_of_all_photos():
    data = examples([(1, 0)] * 3 + [(-1, 0)] * 4, [1] * 7)
    (row,) = training.train(line((2.0, 0.0)), data, None, schedule(epochs=1, batch_size=3, learning_rate=1e-9), Best())
    assert row["accuracy"] == pytest.approx(3 / 7)
    assert row["loss"] == pytest.approx((3 * np.log1p(np.exp(-2)) + 4 * np.log1p(np.exp(2))) / 7, rel=1e-5)


def test_validation_scores_are_those_of_its_photos():
    rows = [(1, 0)] * 3 + [(-1, 0)] * 2
    validation = ValidationSet(np.array(rows, np.float32), np.array([1, 1, 0, 0, 0], np.int32))
    (row,) = training.train(line((2.0, 0.0)), RISING, validation, schedule(epochs=1, learning_rate=1e-9), Best())
    assert row["val_accuracy"] == pytest.approx(4 / 5)
    assert row["val_mean_per_class_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert row["val_loss"] == pytest.approx((4 * right + wrong) / 5, rel=1e-5)


def test_logits_are_without_dropout_and_do_not_depend_on_the_rows_beside_them():
    model = keras_model.head(4, (32,), 0.9, seed=0)
    rows = np.random.default_rng(0).normal(size=(300, 2048)).astype(np.float32)
    whole = training.logits(model, rows)
    assert whole.shape == (300, 4) and whole.dtype == np.float32
    np.testing.assert_allclose(whole, np.asarray(model(rows, training=False)), rtol=1e-4, atol=1e-5)
    for part in (slice(0, 1), slice(0, 128), slice(256, 300)):
        assert training.logits(model, rows[part]).tobytes() == whole[part].tobytes()


def test_softmax_survives_large_logits():
    found = training.softmax(np.array([[1000.0, 0.0, -1000.0], [1.0, 1.0, 1.0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    assert found.dtype == np.float32


TRAIN = """
import sys
import numpy as np
from flowers.network import backend, keras_model, training

backend.settle(3)
random = np.random.default_rng(0)
values, labels = random.normal(size=(60, 2048)).astype(np.float32), random.integers(0, 3, 20).astype(np.int32)
data = training.TrainingSet(values, np.arange(60).reshape(20, 3), labels, np.ones(20, np.float32))
validation = training.ValidationSet(values[:20], labels)
schedule = training.Schedule("head", 4, 8, 0.01, 0.01, 0.1, 10, 3)
best = training.Best()
model = keras_model.head(3, (16, 8), 0.3, seed=3)
rows = training.train(model, data, validation, schedule, best)
result = repr(rows).encode() + b"".join(best.weights[name].tobytes() for name in sorted(best.weights))
"""


def test_two_processes_train_to_the_same_bits_and_another_seed_to_others():
    here, other = {}, {}
    exec(TRAIN, here)
    exec(TRAIN.replace("0.1, 10, 3)", "0.1, 10, 4)"), other)
    assert here["result"] != other["result"]
    command = [sys.executable, "-c", TRAIN + "sys.stdout.buffer.write(result)"]
    there = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, check=True).stdout
    assert len(there) > 4 * 2048 * 16
    assert here["result"] == there
