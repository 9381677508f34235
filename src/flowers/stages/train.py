"""Train: the head on stored activations, then head and unfrozen blocks together; writes the model and its history."""

import csv
import shutil
from dataclasses import replace

from flowers.common import console, paths
from flowers.config.params import AugmentationParams, HeadParams, ModelParams, TrainParams
from flowers.metrics import calibration
from flowers.model import backend, classifier, resnet, weights
from flowers.training import activation_cache, fitting, phases
from flowers.training.checkpoint import Checkpoint

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
    """Run the stage; `on_epoch` is handed each epoch's row of the history as soon as it is there.

    With a checkpoint, a training that was killed goes on from its last finished epoch; the rows of all epochs before
    are handed on again. It stays when the stage ends, until evaluate sees that the result was kept.
    """
    feature_layer = fitting.feature_layer_of(model, head)
    data = fitting.Data(model.precision, augmentation, [feature_layer], with_validation=train.on == "train")
    views = f"{augmentation.views + 1} views each" if augmentation.views else "plain"
    console.say(f"Training on {len(data.train)} photos of {len(data.train.classes)} classes, {views}")

    if checkpoint is not None:  # another device or precision, other bits
        checkpoint = replace(checkpoint, key=f"{checkpoint.key} {data.precision} {backend.device()}")
    progress = checkpoint.load() if checkpoint else phases.Progress()
    if progress.rows:
        console.say(f"Going on after epoch {progress.rows[-1]['epoch']}, where it was interrupted")
    if on_epoch is not None:
        for row in progress.rows:
            on_epoch(row)
    fitting.fit(model, head, train, data, progress, on_epoch, checkpoint.save if checkpoint else None)

    _say_result(progress)
    _write_history(progress.rows)
    description = classifier.Description(
        classes=data.train.classes,
        head_units=list(head.units),
        dropout=head.dropout,
        normalization=head.normalization,
        features=head.features,
        mirror=model.mirror,
        size=model.input_size,
        input=classifier.input_words(model.input_size),
        unfreeze_blocks=model.unfreeze_blocks,
        precision=data.precision,
        weights_digest=weights.digest(data.tensors),
    )
    # Where fine-tuning was no better than the head alone, the blocks are as they were.
    untrained = {name: data.tensors[name] for name in resnet.block_tensors(feature_layer.blocks)}
    trained = {**untrained, **progress.best}
    description = _calibrated(classifier.Classifier(description, trained, data.tensors), data)
    shutil.rmtree(paths.MODEL, ignore_errors=True)
    classifier.save(paths.MODEL, description, trained)


def _calibrated(model: classifier.Classifier, data: fitting.Data) -> classifier.Description:
    """The model's description with the temperature and the threshold that the validation photos ask for."""
    if data.val is None:
        return model.description
    looks = data.val.looks(model.description.mirror, model.size)
    stored = activation_cache.stored(looks, [model.feature_layer], data.tensors, data.precision)
    probabilities = model.probabilities_from_activations(stored[model.feature_layer])
    temperature = calibration.temperature(data.val.labels, probabilities)
    threshold = calibration.threshold(data.val.labels, calibration.scaled(probabilities, temperature))
    return replace(model.description, temperature=temperature, threshold=threshold)


def _say_result(progress: phases.Progress) -> None:
    epochs = sum(row["phase"] != "regression" for row in progress.rows)
    score = progress.best_score[0]
    held_out = f"validation {score:.1%} mean per class" if score >= 0 else "without validation photos"
    if progress.phase == "regression":
        console.say(f"A regression, {held_out}")
    elif score >= 0:
        console.say(f"Best of {epochs} epochs: number {progress.best_epoch}, {held_out}")
    else:
        console.say(f"Trained for {epochs} epochs, {held_out}")


def _write_history(rows: list[phases.Row]) -> None:
    with paths.HISTORY.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
