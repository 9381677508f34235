"""Training on stored activations: epochs, validation, and keeping the best weights.

Everything random is drawn from the seed and the number of the epoch, so that a run is the same from one process to the
next.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from flowers import console
from flowers.errors import UserError
from flowers.network import backend
from flowers.network.adamw import AdamW
from flowers.network.top import Top
from flowers.network.weights import Tensors
from flowers.reporting.metrics import mean_per_class_accuracy

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
class Progress:
    """How far a training has come, over all its phases: all that it needs to go on after an interruption.

    The best epoch so far is that of the highest mean-per-class accuracy, then the lowest loss, then the earlier one.
    """

    rows: list[Row] = field(default_factory=list)  # the scores of each epoch
    best_score: tuple[float, float] = (-1.0, 0.0)
    best_epoch: int = -1
    best: Tensors = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)  # after the last epoch, as the optimizer's state is
    optimizer: list[np.ndarray] = field(default_factory=list)

    @property
    def phase(self) -> str | None:
        """The phase of the last epoch."""
        return str(self.rows[-1]["phase"]) if self.rows else None


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """A weight a photo, float32, with which every class counts the same and the mean weight is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights: np.ndarray = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights.astype(np.float32)


def train(
    top: Top,
    training: TrainingSet,
    validation: ValidationSet | None,
    schedule: Schedule,
    progress: Progress,
    on_epoch: OnEpoch | None = None,
    save: Callable[[Progress], None] | None = None,
) -> None:
    """Train `top` for one phase, or for what is left of the one that `progress` is in; `progress` is updated.

    After each epoch the progress is saved, then its row of scores is handed to `on_epoch`. Without validation the last
    epoch is the best. Raises Diverged where the loss, in training or in validation, stops being a number.
    """
    optimizer = AdamW(top.variables, schedule.learning_rate, schedule.weight_decay)
    resumed = progress.phase == schedule.phase
    if resumed:
        _restore(top, optimizer, progress)
    run_epoch = _epoch_function(top, optimizer, training, schedule)
    done = sum(row["phase"] == schedule.phase for row in progress.rows)
    first = len(progress.rows) - done
    with console.progress_bar(schedule.epochs, schedule.phase, "epochs", done) as bar:
        for epoch in range(first + done, first + schedule.epochs):
            if validation is not None and epoch - 1 - max(progress.best_epoch, first) >= schedule.patience:
                break
            row: Row = {"epoch": epoch, "phase": schedule.phase, "learning_rate": schedule.learning_rate}
            row |= run_epoch(epoch)
            _require_number("training", float(row["loss"]), epoch, schedule.phase)
            if validation is not None:
                row |= _validate(top, validation)
                _require_number("validation", float(row["val_loss"]), epoch, schedule.phase)
            progress.rows.append(row)
            _note(progress, top, optimizer)
            if save is not None:
                save(progress)
            if on_epoch is not None:
                on_epoch(row)
            bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}, refresh=False)
            bar.update()


def softmax(values: np.ndarray) -> np.ndarray:
    """Probabilities of logits, (n, classes) float32, computed in float64."""
    shifted: np.ndarray = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def _note(progress: Progress, top: Top, optimizer: AdamW) -> None:
    """Keep the state after the last epoch, and its tensors as the best ones if they are."""
    row = progress.rows[-1]
    progress.tensors = top.get_tensors()
    progress.optimizer = [variable.numpy() for variable in optimizer.state]
    if "val_loss" in row:
        score = (float(row["val_mean_per_class_accuracy"]), -float(row["val_loss"]))
        if score <= progress.best_score:
            return
        progress.best_score = score
    progress.best_epoch, progress.best = int(row["epoch"]), progress.tensors


def _restore(top: Top, optimizer: AdamW, progress: Progress) -> None:
    top.set_tensors(progress.tensors)
    for variable, values in zip(optimizer.state, progress.optimizer, strict=True):
        variable.assign(values)


def _epoch_function(
    top: Top, optimizer: AdamW, training: TrainingSet, schedule: Schedule
) -> Callable[[int], dict[str, float]]:
    """What runs an epoch, every photo once, in a new order, each in one of its views: to mean loss and accuracy."""
    step = _step_function(top, optimizer, schedule)
    # Features held in memory train in milliseconds: the whole epoch is one call.
    fused = isinstance(training.examples, np.ndarray)
    run = (_fused if fused else _streamed)(step, training.examples, schedule.batch_size)

    def run_epoch(epoch: int) -> dict[str, float]:
        random = np.random.default_rng([schedule.seed, epoch])
        order = random.permutation(len(training.labels))
        rows = training.views[order, random.integers(0, training.views.shape[1], len(order))]
        top.reseed(random)
        loss, hits = run(rows, training.labels[order], training.weights[order])
        return {"loss": float(loss) / len(order), "accuracy": float(hits) / len(order)}

    return run_epoch


def _step_function(top: Top, optimizer: AdamW, schedule: Schedule) -> Any:
    """One step on a batch; returns the sum of its losses and the number of hits, float64 (2,)."""
    tf = backend.tensorflow()

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(batch: Any, labels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            scores = top(batch, training=True)
            classes = scores.shape[-1]
            targets = tf.one_hot(labels, classes) * (1 - schedule.label_smoothing) + schedule.label_smoothing / classes
            losses = weights * tf.nn.softmax_cross_entropy_with_logits(targets, scores)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, list(top.variables.values())))
        hits = tf.reduce_sum(tf.cast(tf.argmax(scores, -1, tf.int32) == labels, tf.float64))
        return tf.stack([tf.cast(tf.reduce_sum(losses), tf.float64), hits])

    return step


def _fused(step: Any, examples: Examples, batch_size: int) -> Any:
    tf = backend.tensorflow()
    held = tf.constant(examples)

    @tf.function  # type: ignore[untyped-decorator]
    def run(rows: Any, labels: Any, weights: Any) -> Any:
        sums = tf.zeros(2, tf.float64)
        for start in tf.range(0, tf.size(rows), batch_size):
            batch = slice(start, start + batch_size)
            sums += step(tf.gather(held, rows[batch]), labels[batch], weights[batch])
        return sums

    return run


def _streamed(step: Any, examples: Examples, batch_size: int) -> Any:
    def run(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sums = np.zeros(2)
        for start, batch in _ahead(examples, rows, batch_size):
            sums += step(batch, labels[start : start + batch_size], weights[start : start + batch_size]).numpy()
        return sums

    return run


def _ahead(examples: Examples, rows: np.ndarray, batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of activations and where they start in `rows`, each read while the one before it is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(examples.__getitem__, rows[:batch_size])
        for start in range(0, len(rows), batch_size):
            batch = waiting.result()
            waiting = pool.submit(examples.__getitem__, rows[start + batch_size : start + 2 * batch_size])
            yield start, batch


def _require_number(which: str, loss: float, epoch: int, phase: str) -> None:
    if not math.isfinite(loss):
        key = "train.fine_tune_learning_rate" if phase == "fine_tune" else "train.learning_rate"
        raise Diverged(f"the {which} loss became {loss} in epoch {epoch} ({phase}); lower {key} in params.yaml")


def _validate(top: Top, validation: ValidationSet) -> Row:
    scores = top.logits(validation.examples)
    probabilities = softmax(scores)
    predicted = probabilities.argmax(axis=1)
    likelihood = np.clip(probabilities[np.arange(len(predicted)), validation.labels], 1e-7, 1)
    return {
        "val_loss": float(-np.log(likelihood).mean()),
        "val_accuracy": float((predicted == validation.labels).mean()),
        "val_mean_per_class_accuracy": mean_per_class_accuracy(validation.labels, predicted, scores.shape[1]),
    }
