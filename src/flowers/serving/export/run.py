"""`flowers export`: write the trained model in a format, and prove that it predicts as the model does."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import ahead, console, paths
from flowers.common.errors import UserError
from flowers.model import classifier, weights
from flowers.serving import models
from flowers.serving.export import description, formats, origin, proof, table
from flowers.serving.export.formats import Format
from flowers.serving.export.names import Name
from flowers.serving.export.network import Network
from flowers.serving.stream import Model
from flowers.training import subsets
from flowers.training.activation_cache import Item, pixels

EXPORTS = paths.BUILD / "exports"
COMPARED = 300  # images whose predictions are compared in int8, at least, where there are as many
PROOF = "proof.json"
TABLE = "proof.md"


def export(name: Name, folder: Path | None, reference: str, settings: models.Settings) -> None:
    """Write the model that `reference` names (see `models.located`) to a new folder, by default build/exports/NAME.

    The images are those of this checkout's split. Raises UserError, and leaves nothing behind, where a package is
    missing, the folder is not new, the model is an export or has other classes, or the export fails the proof.
    """
    form, folder = formats.FORMATS[name], folder or EXPORTS / name
    form.require()
    paths.require_empty(folder)
    with models.located(reference, settings) as (place, called):
        model = trained(models.load(place), called, name)
        validation, ordered = _images(model, called)
        found_in = origin.of(place, settings)
    about = _description(name, model, found_in)
    in_int8 = model.description.precision == "int8"
    network = Network(
        None if in_int8 else model.export(),
        about,
        lambda count: list(ahead.computed(pixels, ordered[:count], 64)),
        model.export_int8() if in_int8 else None,
    )

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        made = Path(temporary) / "network"
        made.mkdir()
        console.say(f"Writing {called} as {form.title}, which takes about a minute")
        form.write(network, made)
        description.write_labels(model.classes, made)
        _prove(form, model, made, validation, ordered)
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    console.say(f"wrote {folder}; to use it: flowers predict --model {folder} IMAGES")


def trained(model: Model, called: str, name: Name) -> classifier.Classifier:
    """The model in float32, even if it was trained in bfloat16: exports compute in it.

    Raises UserError for an export, and for a model in int8 unless the format is that of OpenVINO's int8.
    """
    if not isinstance(model, classifier.Classifier):
        raise UserError(f"{called}: an exported network already; export the model that it was made from")
    if model.description.precision == "int8" and name != "openvino-int8":
        raise UserError(
            f"{called}: was trained in 8 bits (model.precision: int8), which only `flowers export openvino-int8` "
            "keeps; for this format train with `dvc exp run -S model.precision=float32`"
        )
    if model.description.precision in ("float32", "int8"):
        return model
    shape = replace(model.description, precision="float32")
    return classifier.Classifier(shape, model.trained, model.pretrained)


def spread(chosen: subsets.Subset, size: int) -> list[Item]:
    """The plain views, one of each class in turn, so that each beginning is balanced; within a class by hash."""
    items, turns = chosen.plain(size), np.empty(len(chosen), np.int64)
    seen = [0] * len(chosen.classes)
    for row in sorted(range(len(items)), key=lambda row: items[row].sha256):
        turns[row] = seen[chosen.labels[row]]
        seen[chosen.labels[row]] += 1
    return [items[row] for row in np.lexsort((chosen.labels, turns))]


def _images(model: classifier.Classifier, called: str) -> tuple[subsets.Subset, list[Item]]:
    """The validation images, and the training images in the order in which they are used for int8."""
    val, train = subsets.read("val"), subsets.read("train")
    if val.classes != model.classes:
        raise UserError(f"{called}: its classes are not those of the images here, on which it would be proved")
    return val, spread(train, model.size)


def _description(name: Name, model: classifier.Classifier, found_in: dict[str, str | None]) -> description.Description:
    shape, tensors = model.description, {**model.pretrained, **model.trained}
    digests = {"model_digest": weights.digest(tensors), "weights_digest": shape.weights_digest}
    return description.Description(
        format=name,
        classes=shape.classes,
        size=shape.size,
        input=shape.input,
        threshold=shape.threshold,
        temperature=shape.temperature,
        origin={**found_in, **digests},
        made_with={},
    )


def _prove(
    form: Format, model: classifier.Classifier, made: Path, val: subsets.Subset, ordered: Sequence[Item]
) -> None:
    file = formats.find(made)
    assert file is not None
    exported = formats.load(file)
    calibrated_on = exported.about.calibrated_on or 0
    rest = [*ordered[calibrated_on:], *ordered[:calibrated_on]][: max(0, COMPARED - len(val))]
    found = proof.compare(model, exported, val.plain(model.size), val.labels, rest if form.precision == "int8" else ())
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    text = table.markdown(form.title, found, size)
    console.say(text)
    if model.threshold is None:
        console.warn("the model was trained on the validation images, too: their accuracy is too high")
    if reason := proof.failure(found, form.precision):
        less = form.instead if model.description.precision != "int8" else None
        hint = f"; `flowers export {less}` loses less" if less else ""
        raise UserError(f"not written: as {form.title} {reason}{hint}")
    content: dict[str, Any] = {**exported.about.model_dump(exclude={"seal"}), "proof": asdict(found), "bytes": size}
    (made / PROOF).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (made / TABLE).write_text(text + "\n", encoding="utf-8")
