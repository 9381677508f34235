"""The classifier that a training leads to, and its predictions for the images of a split."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from flowers.config.params import HeadParams, ModelParams
from flowers.metrics import calibration, novelty
from flowers.model import resnet, weights
from flowers.model.classifier import Classifier, Description, input_words
from flowers.training import activation_cache, fitting, phases
from flowers.training.subsets import Subset


def classifier(
    model: ModelParams, head: HeadParams, data: fitting.Data, progress: phases.Progress, val: Subset | None
) -> Classifier:
    """The classifier of the best epoch, with temperature and threshold fitted to the validation images, if any."""
    layer = fitting.feature_layer_of(model)
    description = Description(
        classes=data.train.classes,
        head_units=list(head.units),
        dropout=head.dropout,
        normalization=head.normalization,
        features=head.features,
        mirror=model.mirror,
        size=model.input_size,
        input=input_words(model.input_size),
        unfreeze_blocks=model.unfreeze_blocks,
        precision=data.precision,
        weights_digest=weights.digest(data.tensors),
    )
    # If no fine-tuning epoch is the best, progress.best holds the head only.
    tensors = {**{name: data.tensors[name] for name in resnet.block_tensors(layer.blocks)}, **progress.best}
    found = Classifier(description, tensors, data.tensors)
    if val is None:
        return found
    uncalibrated = probabilities(found, val)
    temperature = calibration.temperature(val.labels, uncalibrated)
    threshold = calibration.threshold(val.labels, calibration.scaled(uncalibrated, temperature))
    return Classifier(replace(description, temperature=temperature, threshold=threshold), tensors, data.tensors)


def with_detector(
    model: Classifier, train: Subset, val: Subset | None, known_rate: float, groups: Sequence[str] = ()
) -> tuple[Classifier, np.ndarray]:
    """The classifier with a detector of unknown images, and the ratios (images, classes) of the training images.

    It keeps `known_rate` of the validation images. Without these, cross-validation of the training images stands for
    them, which `groups` divides into near-duplicates. Raises novelty.NoSpread.
    """
    seen = features(model, train)
    fitted = novelty.fit(seen, train.labels, len(model.classes), model.feature_layer.features)
    if val is None:
        widths = model.feature_layer.features
        best, distances = novelty.held_out(seen, train.labels, groups, len(model.classes), widths)
    else:
        best, distances = fitted.detector.best(features(model, val))
    detector = fitted.detector.limited(distances)
    threshold = novelty.threshold(best - detector.beyond(distances), known_rate)
    description = replace(model.description, known_threshold=threshold)
    return Classifier(description, model.trained, model.pretrained, detector), detector.ratios(seen)


def probabilities(model: Classifier, images: Subset) -> np.ndarray:
    """Calibrated probabilities (images, classes) from cached activations."""
    items = images.with_flips(model.description.mirror, model.size)
    return model.probabilities_from_activations(_stored(model, items))


def features(model: Classifier, images: Subset) -> np.ndarray:
    """Pooled features (images, ...) float32 of the plain images, from cached activations."""
    return model.trainable.logits_and_features(_stored(model, images.plain(model.size)))[1]


def predicted(model: Classifier, items: Sequence[activation_cache.Item]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and features of items in the order of `Subset.with_flips`: see `Classifier.from_activations`."""
    return model.from_activations(_stored(model, items))


def _stored(model: Classifier, items: Sequence[activation_cache.Item]) -> activation_cache.Activations:
    layer = model.feature_layer
    return activation_cache.stored(items, [layer], model.pretrained, model.description.precision)[layer]


def write_predictions(path: Path, images: Subset, probabilities: np.ndarray) -> None:
    """Write predictions.csv: path, sha256, label, predicted, probability, and `p(class)` of each class, by image.

    The numbers are formatted row by row, in a fifth of the time that pandas takes.
    """
    line = csv.writer(SimpleNamespace(write=str), lineterminator="\n").writerow  # returns what `write` returns
    names, numbers = ("path", "sha256", "label"), ",".join(["%.6g"] * (1 + len(images.classes)))
    columns = zip(*(images.table[name] for name in names), probabilities.argmax(axis=1), strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(line([*names, "predicted", "probability", *(f"p({name})" for name in images.classes)]))
        for (*words, predicted), row in zip(columns, probabilities, strict=True):
            text = line([*words, images.classes[predicted]]).removesuffix("\n")
            file.write(f"{text},{numbers % (row.max(), *row.tolist())}\n")
