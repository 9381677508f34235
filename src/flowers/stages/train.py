"""Train: the head on stored activations, then head and unfrozen blocks together; writes the model and its history."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flowers import console, paths
from flowers.errors import UserError
from flowers.network import activations, backend, classifier, keras_model, photos, resnet, training, weights
from flowers.network.checkpoint import Checkpoint
from flowers.network.top import Top
from flowers.network.trunk import Cut, best_precision
from flowers.params import AugmentationParams, HeadParams, ModelParams, TrainParams

HISTORY_COLUMNS = (
    "epoch",
    "phase",
    "learning_rate",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_mean_per_class_accuracy",
)


def run(
    model: ModelParams,
    head: HeadParams,
    augmentation: AugmentationParams,
    train: TrainParams,
    on_epoch: training.OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Run the stage; `on_epoch` is handed each epoch's row of the history as soon as it is there.

    With a checkpoint, a training that was killed goes on from its last finished epoch; the rows of all epochs before
    are handed on again. It stays when the stage ends, until evaluate sees that the result was kept.
    """
    backend.settle(train.seed)
    data = _Data(model, augmentation, train)
    views = f"{augmentation.views + 1} views each" if augmentation.views else "plain"
    console.say(f"Training on {len(data.train)} photos of {len(data.train.classes)} classes, {views}")

    if checkpoint is not None:  # another device or precision, other bits
        checkpoint = replace(checkpoint, key=f"{checkpoint.key} {data.precision} {backend.device()}")
    progress = checkpoint.load() if checkpoint else training.Progress()
    if progress.rows:
        console.say(f"Going on after epoch {progress.rows[-1]['epoch']}, where it was interrupted")
    if on_epoch is not None:
        for row in progress.rows:
            on_epoch(row)
    _two_phases(model, head, train, data, progress, on_epoch, checkpoint.save if checkpoint else None)

    _say_result(progress)
    _write_history(progress.rows)
    description = classifier.Description(
        classes=data.train.classes,
        head_units=list(head.units),
        dropout=head.dropout,
        unfreeze_blocks=model.unfreeze_blocks,
        precision=data.precision,
        weights_digest=weights.digest(data.tensors),
    )
    shutil.rmtree(paths.MODEL, ignore_errors=True)
    # Where fine-tuning was no better than the head alone, the blocks are as they were.
    untrained = {name: data.tensors[name] for name in resnet.block_tensors(data.cut.blocks)}
    classifier.save(paths.MODEL, description, {**untrained, **progress.best})


def _two_phases(
    model: ModelParams,
    head: HeadParams,
    train: TrainParams,
    data: "_Data",
    progress: training.Progress,
    on_epoch: training.OnEpoch | None,
    save: Callable[[training.Progress], None] | None,
) -> None:
    """Train the head alone, then with the unfrozen blocks, from its best epoch on."""
    head_model = keras_model.head(len(data.train.classes), head.units, head.dropout, train.seed)
    if progress.phase != "fine_tune":
        top = Top(Cut(0), data.tensors, head_model)
        training.train(top, *data.at(Cut(0)), _schedule(train, "head"), progress, on_epoch, save)
    if model.unfreeze_blocks and train.fine_tune_epochs:
        keras_model.set_tensors(head_model, progress.best)
        top = Top(data.cut, data.tensors, head_model, data.precision, model.train_batch_norm)
        training.train(top, *data.at(data.cut), _schedule(train, "fine_tune"), progress, on_epoch, save)


def _read_weights() -> dict[str, np.ndarray]:
    try:
        return weights.read(paths.WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{paths.WEIGHTS}: no such file; run `dvc repro`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{paths.WEIGHTS}: {error}; run `dvc repro -f download`") from None


class _Data:
    """The weights, and training and validation photos with their activations at the pooled features and at the cut."""

    def __init__(self, model: ModelParams, augmentation: AugmentationParams, train: TrainParams) -> None:
        self.tensors = _read_weights()
        self.precision = best_precision() if model.precision == "auto" else model.precision
        self.cut = Cut(model.unfreeze_blocks)
        with_validation = train.on == "train"
        self.train = photos.read(*(["train"] if with_validation else ["train", "val"]))
        self.val = photos.read("val") if with_validation else None
        views = self.train.augmented(augmentation)
        count = augmentation.views + 1
        self._rows = np.arange(len(views) * count).reshape(-1, count)
        self._val_rows = np.arange(self._rows.size, self._rows.size + (len(self.val) if self.val else 0))
        items = [item for of_photo in views for item in of_photo] + (self.val.plain() if self.val else [])
        self._activations = activations.stored(items, [Cut(0), self.cut], self.tensors, self.precision)
        weighed = training.class_weights(self.train.labels, len(self.train.classes))
        self._weights = weighed if train.class_weights else np.ones_like(weighed)

    def at(self, cut: Cut) -> tuple[training.TrainingSet, training.ValidationSet | None]:
        """Both sets with their activations at one cut; pooled features are small enough to be held in memory."""
        stored = self._activations[cut]
        examples: training.Examples = stored[:] if cut.unfreeze_blocks == 0 else stored
        val = None
        if self.val is not None:
            val = training.ValidationSet(_Rows(examples, self._val_rows), self.val.labels)
        return training.TrainingSet(examples, self._rows, self.train.labels, self._weights), val


class _Rows:
    """Some rows of a set of examples, as a set of examples."""

    def __init__(self, examples: training.Examples, rows: np.ndarray) -> None:
        self._examples, self._rows = examples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._examples[self._rows[rows]]


def _schedule(train: TrainParams, phase: str) -> training.Schedule:
    fine = phase == "fine_tune"
    return training.Schedule(
        phase=phase,
        epochs=train.fine_tune_epochs if fine else train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.fine_tune_learning_rate if fine else train.learning_rate,
        weight_decay=train.weight_decay,
        label_smoothing=train.label_smoothing,
        patience=train.patience,
        seed=train.seed,
    )


def _say_result(progress: training.Progress) -> None:
    epochs, score = len(progress.rows), progress.best_score[0]
    if score >= 0:
        console.say(f"Best of {epochs} epochs: number {progress.best_epoch}, validation {score:.1%} mean per class")
    else:
        console.say(f"Trained for {epochs} epochs, without validation photos")


def _write_history(rows: list[training.Row]) -> None:
    with paths.HISTORY.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
