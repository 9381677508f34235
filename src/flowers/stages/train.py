"""Train the head, then head and unfrozen blocks together, on cached activations; write the model and its history."""

import csv
import shutil
from dataclasses import replace

import numpy as np

from flowers.common import console, paths
from flowers.config.params import AugmentationParams, HeadParams, ModelParams, TrainParams
from flowers.data import images
from flowers.metrics import novelty
from flowers.model import backend, classifier
from flowers.training import activation_cache, fitting, folds, phases, subsets, trained
from flowers.training.checkpoint import Checkpoint

FITTED = {"regression": "Logistic regression", "lda": "Linear discriminant analysis"}  # phases without epochs

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
    on_epoch: phases.OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Run the stage. `on_epoch` is called with each epoch's row of the history.

    With a checkpoint, a training that was killed resumes after its last finished epoch, and `on_epoch` is called again
    for the epochs before. The stage `evaluate` removes the checkpoint.
    """
    feature_layer = fitting.feature_layer_of(model)
    data = fitting.Data(model.precision, augmentation, [feature_layer], with_validation=train.on == "train")
    views = f"{augmentation.views + 1} augmented views each" if augmentation.views else "plain"
    console.say(f"Training on {len(data.train)} images of {len(data.train.classes)} classes, {views}")

    if checkpoint is not None:  # another device or precision gives other bits
        checkpoint = replace(checkpoint, key=f"{checkpoint.key} {data.precision} {backend.device()}")
    progress = checkpoint.load() if checkpoint else phases.Progress()
    if progress.rows:
        console.say(f"Resuming the interrupted training after epoch {progress.rows[-1]['epoch']}")
    if on_epoch is not None:
        for row in progress.rows:
            on_epoch(row)
    fitting.fit(model, head, train, data, progress, on_epoch, checkpoint.save if checkpoint else None)

    _report(progress)
    _write_history(progress.rows)
    made = trained.classifier(model, head, data, progress, data.val)
    chosen: list[bytes] = []
    try:
        groups = folds.groups_of(data.train) if data.val is None else []
        made, ratios = trained.with_detector(made, data.train, data.val, model.known_rate, groups)
        chosen = _examples(data.train, ratios, model.input_size)
    except novelty.NoSpread as error:
        console.warn(f"The model cannot tell unknown images: {error}")
    shutil.rmtree(paths.MODEL, ignore_errors=True)
    classifier.save(paths.MODEL, made.description, made.trained, made.detector, chosen)


def _examples(train: subsets.Subset, ratios: np.ndarray, size: int) -> list[bytes]:
    """The training image of each class that the detector finds most typical, `size` pixels wide, as JPEG."""
    typical = np.where(train.labels[:, None] == np.arange(ratios.shape[1]), ratios, -np.inf).argmax(axis=0)
    items = train.plain(size)
    return [images.jpeg(activation_cache.pixels(items[row])) for row in typical]


def _report(progress: phases.Progress) -> None:
    epochs = sum(row["phase"] not in FITTED for row in progress.rows)
    score = progress.best_score[0]
    validation = f"validation {console.percent(score)} mean per class" if score >= 0 else "without validation images"
    if progress.phase in FITTED:
        console.say(f"{FITTED[progress.phase]}: {validation}")
    elif score >= 0:
        console.say(f"Best of {epochs} epochs: number {progress.best_epoch}, {validation}")
    else:
        console.say(f"Trained for {epochs} epochs, {validation}")


def _write_history(rows: list[phases.Row]) -> None:
    with paths.HISTORY.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
