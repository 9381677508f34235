"""What each piece of a recipe is worth: one change at a time, judged by cross-validation over train and val.

    python benchmarks/ablations.py --photos /photos/oxford102

The variants stand in benchmarks/ablations.yaml. Each is trained on one half of the photos of train and val and scored
on the other half, twice, so that every photo is judged once, and compared with the base on the same photos. The test
photos are not looked at. Answers are kept in build/ablations: what is there already is not trained again, so it may be
stopped at any time. Writes benchmarks/results/ablations.json; then: python benchmarks/results_page.py
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import scratch
from ruamel.yaml import YAML
from sklearn.model_selection import StratifiedKFold

from flowers import params, paths
from flowers.comparison import paired
from flowers.network import activations, epochs, fitting, keras_model, photos, training
from flowers.network.top import Top
from flowers.network.trunk import Cut, best_precision
from flowers.reporting import metrics
from recipes import machine

RESULT = scratch.ROOT / "benchmarks" / "results" / "ablations.json"
ANSWERS = scratch.ROOT / "build" / "ablations"
WORLD = scratch.ROOT / "build" / "ablations" / "world"
HALVES = 2
SCORES = ("mean_per_class_accuracy", "accuracy", "log_loss")


class Whole:
    """The photos of train and val with their activations, views, and plain and mirrored looks to be scored by."""

    def __init__(self, settings: params.Params) -> None:
        self.photos = photos.read("train", "val")
        self.tensors, self.precision = fitting.read_weights(), best_precision()
        size = settings.model.input_size
        views = self.photos.augmented(settings.augmentation, size)
        items = [item for of_photo in views for item in of_photo] + self.photos.looks(mirror=True, size=size)
        pooled, self.cut = Cut(0, size), Cut(settings.model.unfreeze_blocks, size)
        stored = activations.stored(items, [pooled, self.cut], self.tensors, self.precision)
        self.examples = {**stored, pooled: stored[pooled][:]}
        count = settings.augmentation.views + 1
        self.views = np.arange(len(views) * count).reshape(-1, count)
        self.looks = np.arange(len(items))[self.views.size :].reshape(2, -1)


class Half:
    """Some of the photos, as fitting.fit wants them."""

    def __init__(self, whole: Whole, rows: np.ndarray) -> None:
        self.tensors, self.precision, self._whole, self._rows = whole.tensors, whole.precision, whole, rows
        table, labels = whole.photos.table.iloc[rows], whole.photos.labels[rows]
        self.train = photos.Photos(table, labels, whole.photos.classes)

    def at(self, cut: Cut, class_weights: bool) -> tuple[epochs.TrainingSet, None]:
        labels = self.train.labels
        weights = training.class_weights(labels, len(self.train.classes)) if class_weights else np.ones(len(labels))
        views = self._whole.views[self._rows]
        return epochs.TrainingSet(self._whole.examples[cut], views, labels, weights.astype(np.float32)), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/, val/ and test/ of one folder a class")
    parser.add_argument("--kept", action="store_true", help="compare what was trained already, and train nothing")
    options = parser.parse_args()
    where = {"dataset.path": str(options.photos.resolve()), "split.method": "official"}
    document = YAML(typ="safe").load((scratch.ROOT / "benchmarks" / "ablations.yaml").read_text(encoding="utf-8"))
    base = document["base"]
    WORLD.mkdir(parents=True, exist_ok=True)
    os.chdir(WORLD)
    scratch.write_params(WORLD, where)
    if not paths.SPLIT.exists():
        for stage in ("download", "split"):
            subprocess.run(["flowers", stage], check=True)
    labels = photos.read("train", "val").labels
    before = {row["what"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
    measured, rows = answers(base, where), []
    for variant in [{"what": "base", "params": {}}, *document["variants"]]:
        values = base | variant["params"]
        if "commit" in variant:  # what it tries was taken out again after that commit; its figures stay
            rows.append(before[variant["what"]] | variant)
        elif kept(values).exists() or not options.kept:
            rows.append(variant | compared(labels, measured, answers(values, where)))
            print(rows[-1], flush=True)
        RESULT.write_text(json.dumps({"base": base, "photos": len(labels), "rows": rows}, indent=1) + "\n")


def answers(values: dict, where: dict) -> dict:
    """Every photo's probabilities by a model that did not see it, and the seconds of a training."""
    mirror = values.get("model.mirror", False)
    file = kept(values)
    if not file.exists():
        np.savez(file, **train(values | where))
    with np.load(file) as found:
        logits = found["logits"][: 2 if mirror else 1].mean(axis=0)
        about = json.loads(str(found["about"])) | {"seconds": round(float(found["seconds"]), 1)}
    return {"probabilities": training.softmax(logits), "about": about}


def kept(values: dict) -> Path:
    """Where the answers of what is trained like this are, or will be."""
    trained = {key: value for key, value in values.items() if key != "model.mirror"}
    return ANSWERS / f"{hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()[:16]}.npz"


def train(values: dict) -> dict:
    """Logits (2, photos, classes) of plain and mirrored photos, each from the half that lacks it."""
    scratch.write_params(WORLD, values)
    settings = params.load()
    whole = Whole(settings)
    labels, cut = whole.photos.labels, whole.cut
    logits = np.zeros((2, len(labels), len(whole.photos.classes)), np.float32)
    seconds = []
    for seen, unseen in StratifiedKFold(HALVES, shuffle=True, random_state=0).split(labels, labels):
        start, progress = time.perf_counter(), training.Progress()
        fitting.fit(settings.model, settings.head, settings.train, Half(whole, seen), progress)
        seconds.append(time.perf_counter() - start)
        classes, head = len(whole.photos.classes), settings.head
        model = keras_model.head(classes, head.units, head.dropout, 0, head.normalization)
        keras_model.set_tensors(model, progress.best)
        top = Top(cut, {**whole.tensors, **progress.best}, model, whole.precision)
        for look, rows in enumerate(whole.looks):
            logits[look, unseen] = top.logits(whole.examples[cut][rows[unseen]])
    about = {"machine": machine(), "date": str(datetime.date.today())}
    return {"logits": logits, "seconds": np.mean(seconds), "about": json.dumps(about)}


def compared(labels: np.ndarray, base: dict, found: dict) -> dict:
    scores = metrics.scores(labels, found["probabilities"])
    gain = paired.differences(labels, base["probabilities"], found["probabilities"])["mean_per_class_accuracy"]
    return {
        "scores": {name: round(scores[name], 4) for name in SCORES},
        "gain": [round(number, 4) for number in (gain.value, gain.low, gain.high)],
        **found["about"],
    }


if __name__ == "__main__":
    main()
