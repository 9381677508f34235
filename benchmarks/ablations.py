"""What each piece of a recipe is worth: one change at a time, judged by cross-validation over train and val.

    python benchmarks/ablations.py --photos /photos/oxford102

The variants stand in benchmarks/ablations.yaml. Each is trained on one half of the photos of train and val and scored
on the other half, twice, so that every photo is judged once by a model that did not see it. The test photos are not
looked at. What stands in benchmarks/results/ablations.json is not measured again, so it may be stopped at any time.
Then: python benchmarks/results_page.py
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

import numpy as np
import scratch
from ruamel.yaml import YAML
from sklearn.model_selection import StratifiedKFold

from flowers import params, paths, recipes
from flowers.comparison import paired
from flowers.network import activations, epochs, fitting, keras_model, photos, training
from flowers.network.top import Top
from flowers.network.trunk import Cut
from flowers.reporting import metrics

RESULT = scratch.ROOT / "benchmarks" / "results" / "ablations.json"
ANSWERS = scratch.ROOT / "build" / "ablations"
WORLD = scratch.ROOT / "build" / "ablations" / "world"
HALVES = 2
SIZES = (224, 256, 288, 320)  # of photos, in pixels, that every model is asked about
SCORE = "mean_per_class_accuracy"


class Half:
    """Some of the photos of train and val, as fitting.fit wants them."""

    def __init__(self, whole: fitting.Data, rows: np.ndarray) -> None:
        self.tensors, self.precision, self.size = whole.tensors, whole.precision, whole.size
        self._whole, self._rows = whole, rows
        table, labels = whole.train.table.iloc[rows], whole.train.labels[rows]
        self.train = photos.Photos(table, labels, whole.train.classes)

    def at(self, unfreeze_blocks: int, class_weights: bool) -> tuple[epochs.TrainingSet, None]:
        whole, _ = self._whole.at(unfreeze_blocks, class_weights)
        return replace(
            whole, **{name: getattr(whole, name)[self._rows] for name in ("views", "labels", "weights")}
        ), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/, val/ and test/ of one folder a class")
    where = {"dataset.path": str(parser.parse_args().photos.resolve()), "split.method": "official"}
    document = YAML(typ="safe").load((scratch.ROOT / "benchmarks" / "ablations.yaml").read_text(encoding="utf-8"))
    base = document["base"]
    # Read here, because the stages that are called stand in a folder of their own.
    full = json.loads(json.dumps(recipes.defaults())) | base
    WORLD.mkdir(parents=True, exist_ok=True)
    os.chdir(WORLD)
    scratch.write_params(WORLD, where)
    if not paths.SPLIT.exists():
        for stage in ("download", "split"):
            subprocess.run(["flowers", stage], check=True)
    labels = photos.read("train", "val").labels
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    before = before if before.get("base") == base else {}
    found = {"base": base, "photos": len(labels), "trained": [], "asked": []}
    for kind in ("asked", "trained"):
        for variant in document[kind]:
            known = [row for row in before.get(kind, []) if _what(row) == _what(variant)]
            if not known and "commit" in variant:
                continue
            if not known:
                known = [measure(full, variant["params"], where, labels)]
                print(variant["what"], known[0], flush=True)
            found[kind].append(known[0] | variant)
            RESULT.write_text(json.dumps(found | _rest(before, found), indent=1) + "\n", encoding="utf-8")


def _rest(before: dict, found: dict) -> dict:
    """Rows that were measured earlier and whose turn is yet to come, so that none is lost where this is stopped."""
    return {
        kind: found[kind] + [row for row in before.get(kind, []) if _what(row) not in map(_what, found[kind])]
        for kind in ("trained", "asked")
    }


def _what(row: dict) -> tuple[str, dict]:
    return row["what"], row["params"]


def measure(base: dict, changes: dict, where: dict, labels: np.ndarray) -> dict:
    """The score of the base with these changes; where the training is the base's own, the difference to it, too."""
    found = answers(base | changes, where)
    row = {"score": round(_score(labels, found), 4), **found["about"]}
    if changes and kept(base | changes) == kept(base):
        one, other = answers(base, where)["probabilities"], found["probabilities"]
        gain = paired.differences(labels, one, other)[SCORE]
        row["gain"] = [round(number, 4) for number in (gain.value, gain.low, gain.high)]
    return row


def _score(labels: np.ndarray, found: dict) -> float:
    return metrics.scores(labels, found["probabilities"])[SCORE]


def answers(values: dict, where: dict) -> dict:
    """Every photo's probabilities by a model that did not see it, and the seconds of a training."""
    file = kept(values)
    if not file.exists():
        np.savez(file, **train(values | where))
    with np.load(file) as found:
        looks = 2 if values["model.mirror"] else 1
        logits = found[f"logits_{values['model.input_size']}"][:looks].mean(axis=0)
        about = json.loads(str(found["about"])) | {"seconds": round(float(found["seconds"]), 1)}
    return {"probabilities": training.softmax(logits), "about": about}


def kept(values: dict) -> Path:
    """Where the answers of what is trained like this are, or will be; what they are asked decides no training."""
    trained = {key: value for key, value in values.items() if key not in ("model.mirror", "model.input_size")}
    return ANSWERS / f"{hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()[:16]}.npz"


def train(values: dict) -> dict:
    """Logits (2, photos, classes) of plain and mirrored photos by their size, each from the half that lacks it."""
    scratch.write_params(WORLD, values)
    settings = params.load()
    head, cut = settings.head, fitting.cut_of(settings.model, settings.head)
    whole = fitting.Data(settings.model.precision, settings.augmentation, [cut], with_validation=False)
    labels, classes = whole.train.labels, len(whole.train.classes)
    cuts = [replace(cut, size=size) for size in SIZES]
    examples = {cut: _looks(whole, cut) for cut in cuts}
    logits = {cut: np.zeros((2, len(labels), classes), np.float32) for cut in examples}
    seconds = []
    for seen, unseen in StratifiedKFold(HALVES, shuffle=True, random_state=0).split(labels, labels):
        start, progress = time.perf_counter(), training.Progress()
        fitting.fit(settings.model, head, settings.train, Half(whole, seen), progress)
        seconds.append(time.perf_counter() - start)
        model = keras_model.head(classes, head.units, head.dropout, 0, head.normalization, cut.features)
        keras_model.set_tensors(model, progress.best)
        for at, values_at_cut in examples.items():
            top = Top(at, {**whole.tensors, **progress.best}, model, whole.precision)
            for look in range(2):
                logits[at][look, unseen] = top.logits(values_at_cut[unseen + look * len(labels)])
    about = {"machine": scratch.machine(), "date": str(datetime.date.today())}
    answers = {f"logits_{at.size}": values for at, values in logits.items()}
    return {**answers, "seconds": np.mean(seconds), "about": json.dumps(about)}


def _looks(whole: fitting.Data, cut: Cut) -> epochs.Examples:
    """Activations of all photos, then of their mirror images."""
    looks = whole.train.looks(mirror=True, size=cut.size)
    return activations.stored(looks, [cut], whole.tensors, whole.precision)[cut]


if __name__ == "__main__":
    main()
