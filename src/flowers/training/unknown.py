"""How well a model tells images of unknown classes from known ones."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import console
from flowers.common.errors import UserError
from flowers.data import images
from flowers.data.formats import SUFFIXES
from flowers.metrics import novelty
from flowers.model.classifier import Classifier
from flowers.training import trained
from flowers.training.activation_cache import Item
from flowers.training.subsets import Subset


def report(
    model: Classifier,
    train: Subset,
    tested: Mapping[str, tuple[np.ndarray, np.ndarray]],
    probabilities: np.ndarray,
    foreign_items: Sequence[Item],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The content of novelty.json, and the novelty of groups of images; both empty for a model without a detector.

    `tested` has labels and features of test images, and of validation images unless they were trained on; each class is
    left out of the detector in turn to see whether its images would be found unknown. `probabilities` are those of the
    test images; the foreign items are those of `evaluate.unknown_path`, see `items`.
    """
    border = model.description.known_threshold
    if model.detector is None or border is None:
        return {}, {}
    coordinates = model.detector.projected(trained.features(model, train))[0]
    fitted = novelty.Fit(model.detector, coordinates.astype(np.float64), train.labels)
    known = model.judged(probabilities, tested["test"][1]).novelty
    found: dict[str, Any] = {"kept": float(np.mean(known <= 0))}
    values = {"test images": known}
    for name, (scores, left_out) in novelty.leave_out(fitted, tested).items():
        found[f"{name}_class_left_out"] = scores
        if name == "test" and len(left_out):
            values["test images while their class is left out"] = border - left_out
    if foreign_items:
        foreign_probabilities, features = trained.predicted(model, foreign_items)
        foreign = model.judged(foreign_probabilities, features).novelty
        values["unknown images"] = foreign
        confidence = novelty.scores(probabilities.max(axis=1), foreign_probabilities.max(axis=1))
        found["unknown"] = {
            "images": len(foreign),
            "refused": float(np.mean(foreign > 0)),
            **novelty.scores(-known, -foreign),
            "auroc_of_probability": confidence["auroc"],
        }
    return found, values


def items(folder: Path, size: int, mirror: bool) -> list[Item]:
    """The readable images below a folder, followed by their mirror images with `mirror`.

    Raises UserError if it is no folder, or holds no such image.
    """
    if not folder.is_dir():
        raise UserError(f"params.yaml: evaluate.unknown_path: no folder '{folder}'")
    found, unreadable = [], 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower().removeprefix(".") in SUFFIXES and path.is_file():
            try:
                content = images.read(path)
                images.measure(content)
                found.append(Item(path, hashlib.sha256(content).hexdigest(), images.View(size=size)))
            except images.UnreadableImage:
                unreadable += 1
    if not found:
        raise UserError(f"params.yaml: evaluate.unknown_path: no readable image in '{folder}'")
    if unreadable:
        console.warn(f"{folder}: {unreadable:,} images could not be read and are not in the scores")
    flipped = [Item(item.path, item.sha256, images.View(flip=True, size=size)) for item in found if mirror]
    return found + flipped
