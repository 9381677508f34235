"""Training on stored activations: epochs, validation, and keeping the best weights.

Everything random is drawn from the seed and the number of the epoch, so that a run is the same from one process to the
next.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flowers import console
from flowers.errors import UserError
from flowers.network import backend, keras_model
from flowers.reporting.metrics import mean_per_class_accuracy

if TYPE_CHECKING:
    import keras

Row = dict[str, float | int | str]
OnEpoch = Callable[[Row], None]


class Diverged(UserError):
    """The loss stopped being a number."""


class Examples(Protocol):
    """Activations to gather rows from: an array, or the memory-mapped store."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainingSet:
    """Photos to train on. `views[p]` are the rows of photo p's views in `examples`: (photos, views) int64.

    `labels` (photos,) int32; `weights` (photos,) float32 weigh each photo's loss.
    """

    examples: Examples
    views: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class ValidationSet:
    """Photos to validate on: one row of `examples` a photo, and `labels` (photos,) int32."""

    examples: Examples
    labels: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """How one phase trains: `epochs` at most, ended `patience` epochs after the best one where there is validation."""

    phase: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    patience: int
    seed: int


@dataclass
class Best:
    """The best epoch so far, over all phases: by mean-per-class accuracy, then by loss, then the earlier one."""

    score: tuple[float, float] = (-1.0, 0.0)
    epoch: int = -1
    weights: dict[str, np.ndarray] | None = None


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """A weight a photo, float32, with which every class counts the same and the mean weight is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights: np.ndarray = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights.astype(np.float32)


def train(
    model: "keras.Model",
    training: TrainingSet,
    validation: ValidationSet | None,
    schedule: Schedule,
    best: Best,
    first_epoch: int = 0,
    on_epoch: OnEpoch | None = None,
) -> list[Row]:
    """Train `model` (activations to logits) for one phase; returns a row of scores an epoch.

    With validation, `best` is updated with what beats it; without, it holds the last epoch. Raises Diverged where the
    loss, in training or in validation, stops being a number.
    """
    step = _train_step(model, schedule)
    rows: list[Row] = []
    phase_best = -1
    with console.progress_bar(schedule.epochs, schedule.phase, "epochs") as bar:
        for epoch in range(first_epoch, first_epoch + schedule.epochs):
            loss, accuracy = _run_epoch(step, training, schedule, epoch)
            _require_number("training", loss, epoch, schedule.phase)
            row: Row = {"epoch": epoch, "phase": schedule.phase, "learning_rate": schedule.learning_rate}
            row |= {"loss": loss, "accuracy": accuracy}
            if validation is None:
                best.epoch, best.weights = epoch, keras_model.get_tensors(model)
            else:
                row |= _validate(model, validation)
                _require_number("validation", float(row["val_loss"]), epoch, schedule.phase)
                score = (float(row["val_mean_per_class_accuracy"]), -float(row["val_loss"]))
                if score > best.score:
                    best.score, best.epoch, best.weights = score, epoch, keras_model.get_tensors(model)
                    phase_best = epoch
            rows.append(row)
            if on_epoch is not None:
                on_epoch(row)
            bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}, refresh=False)
            bar.update()
            if validation is not None and epoch - max(phase_best, first_epoch) >= schedule.patience:
                break
    return rows


def logits(model: "keras.Model", examples: Examples, batch_size: int = 128) -> np.ndarray:
    """The model's logits for all rows of the examples, (n, classes) float32, in batches padded to one size."""
    tf = backend.tensorflow()
    predict = getattr(model, "_flowers_predict", None)
    if predict is None:
        predict = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
        model._flowers_predict = predict
    parts = []
    for start in range(0, len(examples), batch_size):
        rows = np.arange(start, start + batch_size)
        values = predict(examples[np.minimum(rows, len(examples) - 1)]).numpy()
        parts.append(values[: len(examples) - start])
    return np.concatenate(parts)


def softmax(values: np.ndarray) -> np.ndarray:
    """Probabilities of logits, (n, classes) float32, computed in float64."""
    shifted: np.ndarray = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def _train_step(model: "keras.Model", schedule: Schedule) -> Any:
    """One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) on a batch; returns summed loss and hits."""
    tf, keras = backend.tensorflow(), backend.keras()
    optimizer = keras.optimizers.AdamW(schedule.learning_rate, weight_decay=schedule.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(batch: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            scores = model(batch, training=True)
            classes = scores.shape[-1]
            targets = tf.one_hot(labels, classes) * (1 - schedule.label_smoothing) + schedule.label_smoothing / classes
            losses = weights * tf.nn.softmax_cross_entropy_with_logits(targets, scores)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        hits = tf.reduce_sum(tf.cast(tf.argmax(scores, -1, tf.int32) == labels, tf.float32))
        return tf.reduce_sum(losses), hits

    return step


def _run_epoch(step: Any, training: TrainingSet, schedule: Schedule, epoch: int) -> tuple[float, float]:
    """Every photo once, in a new order, each in one of its views; returns mean loss and accuracy."""
    random = np.random.default_rng([schedule.seed, epoch])
    order = random.permutation(len(training.labels))
    rows = training.views[order, random.integers(0, training.views.shape[1], len(order))]
    sums = np.zeros(2)
    for photos, batch in _ahead(training.examples, rows, order, schedule.batch_size):
        sums += [float(value) for value in step(batch, training.labels[photos], training.weights[photos])]
    return sums[0] / len(order), sums[1] / len(order)


def _ahead(
    examples: Examples, rows: np.ndarray, order: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of photos and their activations, read one step ahead of the training."""
    from concurrent.futures import ThreadPoolExecutor

    starts = range(0, len(rows), batch_size)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(examples.__getitem__, rows[:batch_size])
        for start in starts:
            batch = waiting.result()
            waiting = pool.submit(examples.__getitem__, rows[start + batch_size : start + 2 * batch_size])
            yield order[start : start + batch_size], batch


def _require_number(which: str, loss: float, epoch: int, phase: str) -> None:
    if not math.isfinite(loss):
        key = "train.fine_tune_learning_rate" if phase == "fine_tune" else "train.learning_rate"
        raise Diverged(f"the {which} loss became {loss} in epoch {epoch} ({phase}); lower {key} in params.yaml")


def _validate(model: "keras.Model", validation: ValidationSet) -> Row:
    scores = logits(model, validation.examples)
    probabilities = softmax(scores)
    predicted = probabilities.argmax(axis=1)
    likelihood = np.clip(probabilities[np.arange(len(predicted)), validation.labels], 1e-7, 1)
    return {
        "val_loss": float(-np.log(likelihood).mean()),
        "val_accuracy": float((predicted == validation.labels).mean()),
        "val_mean_per_class_accuracy": mean_per_class_accuracy(validation.labels, predicted, scores.shape[1]),
    }
