"""The effect of each piece of a recipe: one change at a time, scored by cross-validation over train and val.

    python benchmarks/ablations.py --photos /photos/oxford102

benchmarks/ablations.yaml lists the variants. Each is trained on one half of the images of train and val and scored on
the other half, twice, so that every image is scored once by a model that was not trained on it. The test images are
not read. Variants that are in benchmarks/results/ablations.json are not measured again, so the script may be stopped
at any time. Then: python benchmarks/results_page.py
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import scratch
from ruamel.yaml import YAML
from sklearn.model_selection import StratifiedKFold

from flowers.common import paths
from flowers.config import params, recipes
from flowers.metrics import classification, paired
from flowers.metrics.classification import softmax
from flowers.model import keras_model
from flowers.model.feature_layer import FeatureLayer
from flowers.model.trainable import Examples, TrainablePart
from flowers.training import activation_cache, epochs, fitting, phases, subsets

RESULT = scratch.ROOT / "benchmarks" / "results" / "ablations.json"
LOGITS = scratch.ROOT / "build" / "ablations"
WORLD = scratch.ROOT / "build" / "ablations" / "world"
HALVES = 2
SIZES = (224, 256, 288, 320)  # of images, in pixels, at which every fine-tuned model predicts
SCORE = "mean_per_class_accuracy"


class Half:
    """Some of the images of train and val, in the form that fitting.fit takes."""

    def __init__(self, whole: fitting.Data, rows: np.ndarray) -> None:
        self.tensors, self.precision, self.size = whole.tensors, whole.precision, whole.size
        self._whole, self._rows = whole, rows
        table, labels = whole.train.table.iloc[rows], whole.train.labels[rows]
        self.train = subsets.Subset(table, labels, whole.train.classes)

    def at(self, unfreeze_blocks: int, class_weights: bool) -> tuple[epochs.TrainingSet, None]:
        whole, _ = self._whole.at(unfreeze_blocks, class_weights)
        return replace(
            whole, **{name: getattr(whole, name)[self._rows] for name in ("views", "labels", "weights")}
        ), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/, val/ and test/ of one folder a class")
    where: dict[str, object] = {"dataset.path": str(parser.parse_args().photos.resolve()), "split.method": "official"}
    document = YAML(typ="safe").load((scratch.ROOT / "benchmarks" / "ablations.yaml").read_text(encoding="utf-8"))
    base = document["base"]
    # Read here, because the stages run in a folder of their own.
    full = json.loads(json.dumps(recipes.defaults())) | base
    # The values that variants change, and those they are paired with, image by image. Trainings differ by chance, so
    # they are not paired.
    regression = full | document["regression"]
    kinds = {"asked": (full, full), "regressed": (regression, regression), "trained": (full, None)}
    WORLD.mkdir(parents=True, exist_ok=True)
    os.chdir(WORLD)
    scratch.write_params(WORLD, where)
    if not paths.SPLIT.exists():
        for stage in ("download", "split"):
            subprocess.run(["flowers", stage], check=True)
    labels = subsets.read("train", "val").labels
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    about = {"base": base, "regression": document["regression"], "photos": len(labels)}
    before = before if about.items() <= before.items() else {}
    found: dict[str, Any] = {kind: _known(before.get(kind, []), document[kind]) for kind in kinds}
    for kind, (values, partner) in kinds.items():
        for place, variant in enumerate(document[kind]):
            if "score" not in found[kind][place] and "commit" not in variant:
                found[kind][place] |= measure(values | variant["params"], partner, where, labels)
                print(found[kind][place], flush=True)
            measured = {kind: [row for row in rows if "score" in row] for kind, rows in found.items()}
            RESULT.write_text(json.dumps(about | measured, indent=1) + "\n", encoding="utf-8")


def _known(before: list[dict[str, Any]], variants: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The variants, each with its earlier measurement."""
    return [
        next((row for row in before if (row["what"], row["params"]) == (variant["what"], variant["params"])), {})
        | variant
        for variant in variants
    ]


def measure(
    values: dict[str, Any], partner: dict[str, Any] | None, where: dict[str, Any], labels: np.ndarray
) -> dict[str, Any]:
    """The score of these values, and with a partner the difference to it."""
    found = predictions(values, where)
    row = {"score": round(_score(labels, found), 4), **found["about"]}
    if partner not in (None, values):
        one, other = predictions(partner, where)["probabilities"], found["probabilities"]
        gain = paired.differences(labels, one, other)[SCORE]
        row["gain"] = [round(number, 4) for number in (gain.value, gain.low, gain.high)]
    return row


def _score(labels: np.ndarray, found: dict[str, Any]) -> float:
    return classification.scores(labels, found["probabilities"])[SCORE]


def predictions(values: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    """Every image's probabilities by a model that was not trained on it, and the seconds of a training."""
    file = kept(values)
    if not file.exists():
        np.savez(file, **train(values | where))
    with np.load(file) as found:
        flips = 2 if values["model.mirror"] else 1
        logits = found[f"logits_{values['model.input_size']}"][:flips].mean(axis=0)
        about = json.loads(str(found["about"])) | {"seconds": round(float(found["seconds"]), 1)}
    return {"probabilities": softmax(logits), "about": about}


def kept(values: dict[str, Any]) -> Path:
    """The file of the logits of these values, without the parameters of inference, which decide no training."""
    trained = {key: value for key, value in values.items() if key not in ("model.mirror", "model.input_size")}
    key = json.dumps([trained, _sizes(values), scratch.machine()], sort_keys=True)
    return LOGITS / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _sizes(values: dict[str, Any]) -> tuple[int, ...]:
    return SIZES if values["model.unfreeze_blocks"] else (values["model.input_size"],)


def train(values: dict[str, Any]) -> dict[str, Any]:
    """Logits (2, images, classes) of plain and mirrored images by their size, each by the model of the other half."""
    scratch.write_params(WORLD, values)
    settings = params.load()
    head, feature_layer = settings.head, fitting.feature_layer_of(settings.model)
    whole = fitting.Data(settings.model.precision, settings.augmentation, [feature_layer], with_validation=False)
    labels, classes = whole.train.labels, len(whole.train.classes)
    feature_layers = [replace(feature_layer, size=size) for size in _sizes(values)]
    examples = {feature_layer: _flips(whole, feature_layer) for feature_layer in feature_layers}
    logits = {feature_layer: np.zeros((2, len(labels), classes), np.float32) for feature_layer in examples}
    seconds = []
    for seen, unseen in StratifiedKFold(HALVES, shuffle=True, random_state=0).split(labels, labels):
        start, progress = time.perf_counter(), phases.Progress()
        half = cast(fitting.Data, Half(whole, seen))
        fitting.fit(settings.model, head, settings.train, half, progress)
        seconds.append(time.perf_counter() - start)
        model = keras_model.head(classes, head.units, head.dropout, 0, head.normalization, feature_layer.features)
        keras_model.set_tensors(model, progress.best)
        for at, values_at_feature_layer in examples.items():
            trainable = TrainablePart(at, {**whole.tensors, **progress.best}, model, whole.precision)
            for flip in range(2):
                logits[at][flip, unseen] = trainable.logits(values_at_feature_layer[unseen + flip * len(labels)])
    about = {"machine": scratch.machine(), "date": str(datetime.date.today())}
    arrays = {f"logits_{at.size}": values for at, values in logits.items()}
    return {**arrays, "seconds": np.mean(seconds), "about": json.dumps(about)}


def _flips(whole: fitting.Data, feature_layer: FeatureLayer) -> Examples:
    """Activations of all images, then of their mirror images."""
    items = whole.train.with_flips(mirror=True, size=feature_layer.size)
    return activation_cache.stored(items, [feature_layer], whole.tensors, whole.precision)[feature_layer]


if __name__ == "__main__":
    main()
