"""Train: the head on stored activations, then head and unfrozen blocks together; writes the model and its history."""

import csv
import shutil

import numpy as np

from flowers import console, paths
from flowers.errors import UserError
from flowers.network import activations, backend, classifier, keras_model, photos, training, weights
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
) -> None:
    """Run the stage; `on_epoch` is handed each epoch's row of the history as soon as it is there."""
    tensors = _read_weights()
    precision = best_precision() if model.precision == "auto" else model.precision
    data = _Data(tensors, precision, Cut(model.unfreeze_blocks), augmentation, train)
    views = f"{augmentation.views + 1} views each" if augmentation.views else "plain"
    console.say(f"Training on {len(data.train)} photos of {len(data.train.classes)} classes, {views}")

    backend.settle(train.seed)
    best = training.Best()
    head_model = keras_model.head(len(data.train.classes), head.units, head.dropout, train.seed)
    rows = training.train(
        head_model, *data.at(Cut(0)), _schedule(train, "head"), best, first_epoch=0, on_epoch=on_epoch
    )
    assert best.weights is not None
    trained = best.weights
    if model.unfreeze_blocks:
        keras_model.set_tensors(head_model, trained)
        whole = keras_model.joined(keras_model.tail(data.cut, tensors), head_model)
        trained = keras_model.get_tensors(whole)
        if train.fine_tune_epochs:
            best.weights = None
            schedule = _schedule(train, "fine_tune")
            rows += training.train(whole, *data.at(data.cut), schedule, best, first_epoch=len(rows), on_epoch=on_epoch)
            trained = best.weights or trained

    _say_result(rows, best)
    _write_history(rows)
    description = classifier.Description(
        classes=data.train.classes,
        head_units=list(head.units),
        dropout=head.dropout,
        unfreeze_blocks=model.unfreeze_blocks,
        precision=precision,
        weights_digest=weights.digest(tensors),
    )
    shutil.rmtree(paths.MODEL, ignore_errors=True)
    classifier.save(paths.MODEL, description, trained)


def _read_weights() -> dict[str, np.ndarray]:
    try:
        return weights.read(paths.WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{paths.WEIGHTS}: no such file; run `dvc repro`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{paths.WEIGHTS}: {error}; run `dvc repro -f download`") from None


class _Data:
    """Training and validation photos, with their activations at the pooled features and at the cut."""

    def __init__(
        self,
        tensors: weights.Tensors,
        precision: str,
        cut: Cut,
        augmentation: AugmentationParams,
        train: TrainParams,
    ) -> None:
        self.cut = cut
        with_validation = train.on == "train"
        self.train = photos.read(*(["train"] if with_validation else ["train", "val"]))
        self.val = photos.read("val") if with_validation else None
        views = self.train.augmented(augmentation)
        count = augmentation.views + 1
        self._rows = np.arange(len(views) * count).reshape(-1, count)
        self._val_rows = np.arange(self._rows.size, self._rows.size + (len(self.val) if self.val else 0))
        items = [item for of_photo in views for item in of_photo] + (self.val.plain() if self.val else [])
        self._activations = activations.stored(items, [Cut(0), cut], tensors, precision)
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


def _say_result(rows: list[training.Row], best: training.Best) -> None:
    if best.score[0] >= 0:
        console.say(f"Best of {len(rows)} epochs: number {best.epoch}, validation {best.score[0]:.1%} mean per class")
    else:
        console.say(f"Trained for {len(rows)} epochs, without validation photos")


def _write_history(rows: list[training.Row]) -> None:
    with paths.HISTORY.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
