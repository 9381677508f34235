"""A phase of a training: what is learnt, which epoch is the best, and bit-identical repetition."""

import os
import subprocess
import sys

import numpy as np
import pytest
from schedules import schedule

from flowers.metrics.classification import softmax
from flowers.model import backend, keras_model
from flowers.model.feature_layer import FeatureLayer
from flowers.model.trainable import TrainablePart
from flowers.training import phases
from flowers.training.checkpoint import Checkpoint
from flowers.training.epochs import TrainingSet
from flowers.training.phases import Progress, ValidationSet


@pytest.fixture(autouse=True)
def deterministic():
    backend.make_deterministic(0)


def examples(rows, labels, weights=None) -> TrainingSet:
    """A training set with one view per image."""
    labels = np.array(labels, np.int32)
    weights = np.ones(len(labels), np.float32) if weights is None else np.array(weights, np.float32)
    return TrainingSet(np.array(rows, np.float32), np.arange(len(labels))[:, None], labels, weights)


def head(classes, units, dropout=0.0, seed=0) -> TrainablePart:
    return TrainablePart(FeatureLayer(0), {}, keras_model.head(classes, units, dropout, seed))


def train(trainable, data, validation, schedule, progress=None, on_epoch=lambda _: None) -> Progress:
    progress = progress or Progress()
    phases.train(trainable, data, validation, schedule, progress, on_epoch)
    return progress


def line(start=(0.0, 1.0)) -> TrainablePart:
    """A model with one number to learn, `slope`: logits (0, slope * a + weight * b) of an example (a, b)."""
    keras = backend.keras()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False, name="line")])
    model.layers[0].kernel.assign(np.array([[0, start[0]], [0, start[1]]], np.float32))
    return TrainablePart(FeatureLayer(0), {}, model)


def slope(tensors: dict[str, np.ndarray]) -> float:
    kernel = tensors["line/kernel"]
    return float(kernel[0, 1] - kernel[0, 0])


# Each step of Adam moves the slope by nearly twice the rate, here nearly 0.2. The first validation example is right if
# the slope is above 0.9, the second if it is below 1.5; the loss has its minimum at 1.2.
RISING = examples([(1, 0)], [1])
BETWEEN = ValidationSet(np.array([(1, -0.9), (1, -1.5)], np.float32), np.array([1, 0], np.int32))
RATE = {"learning_rate": 0.1}


def random_set(images: int, classes: int, seed: int = 0) -> TrainingSet:
    random = np.random.default_rng(seed)
    return examples(random.normal(size=(images, 2048)), random.integers(0, classes, images))


def test_one_batch_can_be_overfitted():
    data = random_set(8, 3)
    trainable = head(3, (16,))
    rows = train(trainable, data, None, schedule(epochs=40)).rows
    assert 0.5 < rows[0]["loss"] < 10
    assert rows[-1]["loss"] < 0.02 and rows[-1]["accuracy"] == 1
    assert (trainable.logits(data.examples).argmax(axis=1) == data.labels).all()


def test_the_best_epoch_is_kept_and_patience_ends_the_phase():
    trainable = line()
    progress = train(trainable, RISING, BETWEEN, schedule(**RATE, epochs=30, patience=3))
    rows = progress.rows
    assert [row["val_mean_per_class_accuracy"] for row in rows] == [0.5] * 4 + [1.0] * 3 + [0.5] * 2
    assert progress.best_epoch == 5 == int(np.argmin([row["val_loss"] for row in rows]))
    assert progress.best_score == (1.0, -rows[5]["val_loss"])
    assert slope(progress.best) == pytest.approx(1.2, abs=0.07)
    assert slope(trainable.get_tensors()) == pytest.approx(1.7, abs=0.07)  # after the last epoch


def test_the_loss_decides_not_the_accuracy():
    # The second example is wrong from the start; the first turns right only when the second one's loss is terrible.
    validation = ValidationSet(np.array([(1, -1.1), (10, 0)], np.float32), np.array([1, 0], np.int32))
    progress = train(line(), RISING, validation, schedule(**RATE, epochs=8))
    losses = [row["val_loss"] for row in progress.rows]
    assert losses == sorted(losses) and progress.best_epoch == 0
    assert progress.best_score == (progress.rows[0]["val_mean_per_class_accuracy"], -losses[0])


def test_of_equal_epochs_the_first_is_the_best():
    unmoved = ValidationSet(np.array([(0, 1), (0, -1)], np.float32), np.array([1, 0], np.int32))
    progress = train(line(), RISING, unmoved, schedule(**RATE, epochs=30, patience=4))
    assert len(progress.rows) == 5 and progress.best_epoch == 0
    assert slope(progress.best) == pytest.approx(0.2, abs=0.07)


def test_without_validation_all_epochs_run_and_the_last_is_the_best():
    trainable = line()
    progress = train(trainable, RISING, None, schedule(**RATE, epochs=7, patience=1))
    assert [row["epoch"] for row in progress.rows] == list(range(7)) and progress.best_epoch == 6
    assert not any(name.startswith("val") for row in progress.rows for name in row)
    assert slope(progress.best) == slope(trainable.get_tensors()) == pytest.approx(1.4, abs=0.07)


def test_the_running_average_of_the_epochs_is_kept_and_training_goes_on_from_the_weights():
    slopes = [slope(train(line(), RISING, None, schedule(**RATE, epochs=epochs)).best) for epochs in (1, 2, 3, 4)]
    together = line()
    averaged = train(together, RISING, None, schedule(**RATE, epochs=4, averaging=0.6))
    mean = (slopes[0] + slopes[1]) / 2  # a plain mean, until its decay reaches 0.6
    mean = 0.6 * (0.6 * mean + 0.4 * slopes[2]) + 0.4 * slopes[3]
    assert slope(averaged.best) == pytest.approx(mean, rel=1e-5)
    assert slope(together.get_tensors()) == slopes[3]


def test_the_average_is_what_validation_scores():
    progress = train(line(), RISING, BETWEEN, schedule(**RATE, epochs=30, patience=30, averaging=0.9))
    best = progress.rows[progress.best_epoch]
    assert best["val_accuracy"] == 1 and slope(progress.best) == pytest.approx(1.2, abs=0.1)
    assert slope(progress.tensors) > 3  # the weights themselves have long left the best place


def test_a_second_phase_continues_the_numbers_and_must_beat_the_first():
    progress = train(line(), RISING, BETWEEN, schedule(**RATE, epochs=9))
    kept = progress.best
    worse = schedule(**RATE, phase="fine_tune", epochs=30, patience=3)
    train(line((1.5, 1.0)), RISING, BETWEEN, worse, progress)
    assert [row["epoch"] for row in progress.rows[9:]] == [9, 10, 11, 12]
    assert [row["phase"] for row in progress.rows] == ["head"] * 9 + ["fine_tune"] * 4
    assert progress.best_epoch == 5 and progress.best is kept

    progress = train(line(), RISING, BETWEEN, schedule(**RATE, epochs=9))
    better = line((1.0, 0.0))  # without the second weight's share both examples pull the same way
    easy = ValidationSet(np.array([(1, 0), (-1, 0)], np.float32), np.array([1, 0], np.int32))
    train(better, RISING, easy, schedule(**RATE, phase="fine_tune", epochs=3), progress)
    assert progress.best_epoch == 11 and slope(progress.best) == pytest.approx(1.6, abs=0.07)


def test_on_epoch_is_called_after_every_epoch():
    class Stop(Exception):
        pass

    seen = []

    def on_epoch(row) -> None:
        seen.append(row)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        train(line(), RISING, BETWEEN, schedule(**RATE), on_epoch=on_epoch)
    assert [row["epoch"] for row in seen] == [0, 1, 2]
    names = "epoch phase learning_rate loss accuracy val_loss val_accuracy val_mean_per_class_accuracy"
    assert list(seen[0]) == names.split()


def test_a_training_loss_that_is_not_finite_raises_an_error():
    data = examples([(1e30, 1e30), (-1e30, 1e30)], [1, 1])
    with pytest.raises(phases.Diverged, match=r"training loss .* epoch 0"):
        train(line((1e30, 1.0)), data, None, schedule())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_tensors_with_a_validation_loss_that_is_not_finite_are_never_the_best():
    progress = Progress()
    diverging = schedule(learning_rate=1e38, epochs=1)  # the loss is that before the only step
    far = ValidationSet(np.array([(1e10, -1e10)], np.float32), np.array([0], np.int32))
    with pytest.raises(phases.Diverged, match="validation loss"):
        train(line(), RISING, far, diverging, progress)
    assert not progress.best and not progress.rows


def test_weights_balance_classes_and_keep_the_mean():
    labels = np.array([0] * 6 + [1] * 3 + [3], np.int32)  # class 2 has no image
    weights = phases.class_weights(labels, 4)
    sums = [weights[labels == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, 10 / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1) and weights.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "smoothing", "wanted"), [((3, 1), 0.0, 0.75), ((1, 0), 0.2, 0.9), ((3, 1), 0.2, 0.7)]
)
def test_weights_and_smoothing_determine_the_optimum_of_contradicting_labels(weights, smoothing, wanted):
    """The same example under both labels: the optimum is the weighted mean of the smoothed targets."""
    data = examples([(1, 0), (1, 0)], [1, 0], weights)
    trainable = line()
    train(trainable, data, None, schedule(learning_rate=0.05, epochs=150, label_smoothing=smoothing))
    assert softmax(trainable.logits(data.examples))[0, 1] == pytest.approx(wanted, abs=0.01)


def test_weight_decay_shrinks_kernels_and_not_biases():
    trainable = head(2, ())
    trainable.head.get_layer("head_logits").bias.assign([1.0, 2.0])
    before = trainable.get_tensors()
    data = examples(np.ones((4, 2048)), [0, 1, 0, 1], np.zeros(4))  # weight 0: the gradient is 0
    train(trainable, data, None, schedule(epochs=5, batch_size=2, weight_decay=0.5))
    after = trainable.get_tensors()
    np.testing.assert_allclose(
        after["head_logits/kernel"], before["head_logits/kernel"] * (1 - 0.01 * 0.5) ** 10, rtol=1e-4
    )
    np.testing.assert_array_equal(after["head_logits/bias"], [1, 2])


class Watched:
    """Examples that record which rows are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows):
        self.read.append(np.array(rows))
        return self.values[rows]


def test_an_epoch_reads_every_image_once_in_one_of_its_views():
    watched = Watched(np.ones((21, 2), np.float32))
    views = np.random.default_rng(1).permutation(21).reshape(7, 3)
    data = TrainingSet(watched, views, np.ones(7, np.int32), np.ones(7, np.float32))
    train(line(), data, None, schedule(epochs=20, batch_size=3))
    batches = [rows for rows in watched.read if len(rows)]
    assert [len(rows) for rows in batches] == [3, 3, 1] * 20
    image_of = {row: image for image, of_image in enumerate(views.tolist()) for row in of_image}
    epochs = [np.concatenate(batches[start : start + 3]).tolist() for start in range(0, 60, 3)]
    orders = [tuple(image_of[row] for row in rows) for rows in epochs]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 20  # a new order every time
    assert {row for rows in epochs for row in rows} == set(range(21))


def test_labels_and_weights_are_shuffled_with_their_images():
    """The loss of an epoch with a tiny rate is known, and no other order of labels or weights gives it."""
    random = np.random.default_rng(0)
    values, labels, weights = random.normal(size=12), np.arange(12) % 2, random.uniform(0, 3, 12)
    data = examples(np.stack([values, np.zeros(12)], axis=1), labels, weights)
    (row,) = train(line((1.0, 0.0)), data, None, schedule(epochs=1, batch_size=5, learning_rate=1e-9)).rows
    losses = np.log1p(np.exp(np.where(labels, -values, values)))
    assert row["loss"] == pytest.approx((weights * losses).mean(), rel=1e-5)
    assert row["accuracy"] == pytest.approx(((values > 0) == labels).mean())


def test_accuracy_and_loss_are_means_over_all_images():
    data = examples([(1, 0)] * 3 + [(-1, 0)] * 4, [1] * 7)
    (row,) = train(line((2.0, 0.0)), data, None, schedule(epochs=1, batch_size=3, learning_rate=1e-9)).rows
    assert row["accuracy"] == pytest.approx(3 / 7)
    assert row["loss"] == pytest.approx((3 * np.log1p(np.exp(-2)) + 4 * np.log1p(np.exp(2))) / 7, rel=1e-5)


def test_validation_scores_are_those_of_the_validation_images():
    rows = [(1, 0)] * 3 + [(-1, 0)] * 2
    validation = ValidationSet(np.array(rows, np.float32), np.array([1, 1, 0, 0, 0], np.int32))
    (row,) = train(line((2.0, 0.0)), RISING, validation, schedule(epochs=1, learning_rate=1e-9)).rows
    assert row["val_accuracy"] == pytest.approx(4 / 5)
    assert row["val_mean_per_class_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert row["val_loss"] == pytest.approx((4 * right + wrong) / 5, rel=1e-5)


def test_logits_use_no_dropout_and_do_not_depend_on_neighbouring_rows():
    trainable = head(4, (32,), 0.9)
    rows = np.random.default_rng(0).normal(size=(300, 2048)).astype(np.float32)
    whole = trainable.logits(rows)
    assert whole.shape == (300, 4) and whole.dtype == np.float32
    np.testing.assert_allclose(whole, np.asarray(trainable(rows)), rtol=1e-4, atol=1e-5)
    for part in (slice(0, 1), slice(0, 256), slice(256, 300)):
        assert trainable.logits(rows[part]).tobytes() == whole[part].tobytes()


@pytest.mark.parametrize("averaging", [0.0, 0.6])
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(tmp_path, averaging):
    """Two phases with dropout, several views and early stopping; the state is loaded from a file each time."""
    random = np.random.default_rng(0)
    values, labels = random.normal(size=(60, 2048)).astype(np.float32), random.integers(0, 3, 20).astype(np.int32)
    data = TrainingSet(values, np.arange(60).reshape(20, 3), labels, np.ones(20, np.float32))
    validation = ValidationSet(values[:20], labels)
    first = schedule(batch_size=8, epochs=9, patience=2, weight_decay=0.01, averaging=averaging)
    second = schedule(batch_size=8, epochs=3, averaging=averaging, phase="fine_tune", learning_rate=0.001)

    def run(progress: Progress, save) -> Progress:
        trainable = head(3, (16, 8), 0.3)
        if progress.phase != "fine_tune":
            train(trainable, data, validation, first, progress, lambda _: save(progress))
        train(trainable, data, validation, second, progress, lambda _: save(progress))
        return progress

    files = []

    def save(progress: Progress) -> None:
        files.append(Checkpoint(tmp_path / f"{len(files)}.npz", "key"))
        files[-1].save(progress)

    wanted = run(Progress(), save)
    assert 3 < len(wanted.rows) < 12  # patience ended the first phase
    assert len(files) == len(wanted.rows)
    for number, file in enumerate(files):
        if wanted.rows[number + 1 :] and wanted.rows[number + 1]["phase"] != wanted.rows[number]["phase"]:
            continue  # between phases, `fit` sets the tensors
        found = run(file.load(), save=lambda _: None)
        assert repr(found.rows) == repr(wanted.rows) and found.best_epoch == wanted.best_epoch, number
        for name, tensor in wanted.best.items():
            assert found.best[name].tobytes() == tensor.tobytes(), (number, name)
        assert all(np.array_equal(found.tensors[name], wanted.tensors[name]) for name in wanted.tensors)


TRAIN = """
import sys
import numpy as np
from flowers.config.params import TrainParams
from flowers.model import backend, keras_model
from flowers.training import epochs, phases
from flowers.training.schedule import Schedule
from flowers.model.trainable import TrainablePart
from flowers.model.feature_layer import FeatureLayer

backend.make_deterministic(3)
random = np.random.default_rng(0)
values, labels = random.normal(size=(60, 2048)).astype(np.float32), random.integers(0, 3, 20).astype(np.int32)
data = epochs.TrainingSet(values, np.arange(60).reshape(20, 3), labels, np.ones(20, np.float32))
validation = phases.ValidationSet(values[:20], labels)
shared = {"schedule": "cosine", "warmup_epochs": 1, "weight_decay": 0.01, "label_smoothing": 0.1}
shared |= {"averaging": 0.5, "batch_size": 8, "patience": 10, "seed": 3}
schedule = Schedule("head", 4, 0.01, TrainParams.model_construct(**shared))
progress = phases.Progress()
trainable = TrainablePart(FeatureLayer(0), {}, keras_model.head(3, (16, 8), 0.3, seed=3))
phases.train(trainable, data, validation, schedule, progress, lambda _: None)
result = repr(progress.rows).encode() + b"".join(progress.best[name].tobytes() for name in sorted(progress.best))
"""


def test_two_processes_train_to_the_same_bits_and_another_seed_to_others():
    here, other = {}, {}
    exec(TRAIN, here)
    exec(TRAIN.replace('"seed": 3', '"seed": 4'), other)
    assert here["result"] != other["result"]
    command = [sys.executable, "-c", TRAIN + "sys.stdout.buffer.write(result)"]
    there = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, check=True).stdout
    assert len(there) > 4 * 2048 * 16
    assert here["result"] == there
