"""One phase of a training: its epochs, validation, early stopping, and the weights of the best epoch.

All randomness derives from the seed and the number of the epoch, so every process gives the same run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from flowers.common import console
from flowers.common.errors import UserError
from flowers.metrics.classification import mean_per_class_accuracy, softmax
from flowers.model.trainable import Examples, TrainablePart
from flowers.model.weights import Tensors
from flowers.training import epochs
from flowers.training.epochs import TrainingSet
from flowers.training.optimizer import AdamW
from flowers.training.schedule import Schedule

Row = dict[str, float | int | str]
OnEpoch = Callable[[Row], None]


class Diverged(UserError):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class ValidationSet:
    """Validation images: one row of `examples` per image, and `labels` (images,) int32."""

    examples: Examples
    labels: np.ndarray


@dataclass
class Progress:
    """The state of a training over all its phases, sufficient to resume it.

    The best epoch is that of the lowest validation loss, the earliest of equals. Accuracy would choose between epochs
    that differ by one image, where the last bits of another processor lead to another epoch, and so to another model.
    """

    rows: list[Row] = field(default_factory=list)  # the scores of each epoch
    best_score: tuple[float, float] = (-1.0, -math.inf)  # mean-per-class accuracy and negative loss of that epoch
    best_epoch: int = -1
    best: Tensors = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)  # after the last epoch
    average: Tensors = field(default_factory=dict)  # running average of the phase's epochs; `tensors` without averaging
    optimizer: list[np.ndarray] = field(default_factory=list)  # its state after the last epoch

    @property
    def phase(self) -> str | None:
        """The phase of the last epoch."""
        return str(self.rows[-1]["phase"]) if self.rows else None


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """A weight per image, float32, that gives every class the same total; the mean weight is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights: np.ndarray = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights.astype(np.float32)


def train(
    trainable: TrainablePart,
    training: TrainingSet,
    validation: ValidationSet | None,
    schedule: Schedule,
    progress: Progress,
    on_epoch: OnEpoch,
) -> None:
    """Train `trainable` for one phase, or for the rest of the phase that `progress` is in, and update `progress`.

    With `train.averaging` the running average of the weights after each epoch is validated and kept, while the training
    goes on from the weights themselves (Izmailov et al., arXiv 1803.05407, with a decay). After each epoch `on_epoch`
    gets its row of scores. Without validation the last epoch is the best. Raises Diverged if the training or validation
    loss stops being a number.
    """
    optimizer = AdamW(trainable.variables, schedule.train.weight_decay)
    if progress.phase == schedule.phase:
        trainable.set_tensors(progress.tensors)
        for variable, values in zip(optimizer.state, progress.optimizer, strict=True):
            variable.assign(values)
    run_epoch = epochs.runner(trainable, optimizer, training, schedule)
    done = sum(row["phase"] == schedule.phase for row in progress.rows)
    first = len(progress.rows) - done
    with console.progress_bar(schedule.epochs, schedule.phase, "epochs", done) as bar:
        for epoch in range(first + done, first + schedule.epochs):
            if validation is not None and epoch - 1 - max(progress.best_epoch, first) >= schedule.train.patience:
                break
            row: Row = {"epoch": epoch, "phase": schedule.phase, **run_epoch(epoch, epoch - first)}
            _require_number("training", float(row["loss"]), epoch, schedule.phase)
            progress.tensors = trainable.get_tensors()
            progress.average = _averaged(progress, epoch - first, schedule.train.averaging)
            trainable.set_tensors(progress.average)
            if validation is not None:
                row |= _validate(trainable, validation)
                _require_number("validation", float(row["val_loss"]), epoch, schedule.phase)
            progress.optimizer = [variable.numpy() for variable in optimizer.state]
            _record(progress, row, on_epoch)
            trainable.set_tensors(progress.tensors)
            bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}, refresh=False)
            bar.update()


def record_baseline(
    trainable: TrainablePart,
    phase: str,
    training: TrainingSet,
    validation: ValidationSet | None,
    progress: Progress,
    on_epoch: OnEpoch,
) -> None:
    """Record the scores of `trainable` before any epoch, as the only row of `phase`."""
    scores = _scores(trainable, training.examples[training.views[:, 0]], training.labels)
    row: Row = {"epoch": 0, "phase": phase, "loss": scores["loss"], "accuracy": scores["accuracy"]}
    if validation is not None:
        row |= _validate(trainable, validation)
    progress.tensors = progress.average = trainable.get_tensors()
    _record(progress, row, on_epoch)


def _averaged(progress: Progress, epoch: int, decay: float) -> Tensors:
    """The running average after an epoch, numbered from 0 in its phase: a plain mean until it holds 1 / (1 - decay)."""
    share = np.float32(min(decay, epoch / (epoch + 1)))
    if share == 0:
        return progress.tensors
    return {name: share * progress.average[name] + (1 - share) * values for name, values in progress.tensors.items()}


def _record(progress: Progress, row: Row, on_epoch: OnEpoch) -> None:
    """Add an epoch to the progress, which keeps its average if it is the best; then report it."""
    progress.rows.append(row)
    score = (float(row["val_mean_per_class_accuracy"]), -float(row["val_loss"])) if "val_loss" in row else None
    if score is None or score[1] > progress.best_score[1]:
        progress.best_epoch, progress.best = int(row["epoch"]), progress.average
        progress.best_score = score or progress.best_score
    on_epoch(row)


def _require_number(which: str, loss: float, epoch: int, phase: str) -> None:
    if not math.isfinite(loss):
        key = "train.fine_tune_learning_rate" if phase == "fine_tune" else "train.learning_rate"
        raise Diverged(f"the {which} loss became {loss} in epoch {epoch} ({phase}); lower {key} in params.yaml")


def _validate(trainable: TrainablePart, validation: ValidationSet) -> Row:
    return {f"val_{name}": score for name, score in _scores(trainable, validation.examples, validation.labels).items()}


def _scores(trainable: TrainablePart, examples: Examples, labels: np.ndarray) -> dict[str, float]:
    probabilities = softmax(trainable.logits(examples))
    predicted = probabilities.argmax(axis=1)
    likelihood = np.clip(probabilities[np.arange(len(predicted)), labels], 1e-7, 1)
    return {
        "loss": float(-np.log(likelihood).mean()),
        "accuracy": float((predicted == labels).mean()),
        "mean_per_class_accuracy": mean_per_class_accuracy(labels, predicted, trainable.classes),
    }
