"""How hard the drawn sample is, how much seeds and processors move its score: a ladder of models on its test images.

    python benchmarks/sample.py                    # ladder and ten seeds: half an hour on 2 cores
    python benchmarks/sample.py --only shipped     # ten seeds of params.yaml: minutes
    python benchmarks/sample.py --processors       # the same seed with other instruction sets, 20 minutes and more

Needs data/ and build/weights (dvc repro download). Writes benchmarks/results/sample.json, and prints it as Markdown.
`--processors` compares predictions of `ONEDNN_MAX_CPU_ISA` = SSE41, AVX and AVX2 with those of the processor's own.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scratch
from PIL import Image
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowers.common import paths
from flowers.config import params
from flowers.metrics import classification
from flowers.model import classifier
from flowers.stages import evaluate, train
from flowers.training import activation_cache, subsets

RESULTS = scratch.ROOT / "benchmarks/results/sample.json"
# Changes of params.yaml, and the number of seeds. Fine-tuning takes a minute a seed.
LADDER: dict[str, tuple[dict[str, Any], int]] = {
    "linear head": ({"head.units": [], "head.dropout": 0.0}, 10),
    "shipped": ({}, 10),
    "without averaging": ({"train.averaging": 0.0}, 10),
    "1 block": ({"model.unfreeze_blocks": 1}, 3),
    "3 blocks": ({"model.unfreeze_blocks": 3}, 3),
    "balanced": ({}, 3),
}
SETS = ("SSE41", "AVX", "AVX2")  # of instructions, as oneDNN names them
BLOCKS = (3, 0)  # unfrozen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("mean colour", *LADDER), default=("mean colour", *LADDER))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--processors", action="store_true", help="compare instruction sets instead")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="sets of instructions")
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)  # in a process with such a limit
    given = parser.parse_args()
    if given.predict:
        trainings = [trained({"model.unfreeze_blocks": blocks}, 0, given.precision) for blocks in BLOCKS]
        np.savez(given.predict, labels=test_labels(), probabilities=np.stack(trainings))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        if given.processors:
            found[f"processors, {given.precision}"] = processors(given.precision, given.sets)
        else:
            rows = found.setdefault(given.precision, {})
            rows |= {name: rung(name, given.precision) for name in given.only}
    found["machine"] = scratch.machine()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))


def prepare(folder: Path) -> None:
    """Make the outputs of download and split for the sample in this folder, and go there."""
    scratch.write_params(folder, given_data())
    environment = scratch.environment(paths.cache_folder())
    for stage in ("download", "split"):
        scratch.run([sys.executable, "-m", "flowers", stage], folder, environment)
    os.chdir(folder)


def given_data() -> dict[str, object]:
    return {"dataset.path": str(scratch.ROOT / "data"), "model.weights": str(scratch.ROOT / paths.WEIGHTS)}


def test_labels() -> np.ndarray:
    return subsets.read("test").labels


def trained(changes: dict[str, Any], seed: int, precision: str) -> np.ndarray:
    """The probabilities of the test images, (images, classes), from a training with these changes of params.yaml."""
    scratch.write_params(Path(), given_data() | changes | {"train.seed": seed, "model.precision": precision})
    settings = params.load()
    train.run(settings.model, settings.head, settings.augmentation, settings.train)
    model = classifier.load(paths.MODEL, paths.WEIGHTS)
    items = subsets.read("test").with_flips(model.description.mirror, model.size)
    stored = activation_cache.stored(items, [model.feature_layer], model.pretrained, precision)
    return model.probabilities_from_activations(stored[model.feature_layer])


def rung(name: str, precision: str) -> dict[str, Any]:
    """The test accuracies of a rung of the ladder, one per seed, and the seconds of a training with stored features."""
    if name == "mean colour":
        return {"accuracy": [mean_colour()], "seconds": 0.0}
    changes, seeds = LADDER[name]
    if name == "balanced":
        recipe = YAML(typ="safe").load((scratch.ROOT / "recipes/balanced.yaml").read_text(encoding="utf-8"))["params"]
        changes = {f"{section}.{key}": value for section, values in recipe.items() for key, value in values.items()}
    labels, accuracies, start = test_labels(), [], time.perf_counter()
    for seed in range(seeds):
        if seed == 1:
            start = time.perf_counter()  # the first training also extracts the features
        scores = classification.scores(labels, trained(changes, seed, precision))
        accuracies.append(round(scores["accuracy"], 4))
        print(f"{name}, seed {seed}: {accuracies[-1]:.1%}", flush=True)
    return {"accuracy": accuracies, "seconds": round((time.perf_counter() - start) / (seeds - 1), 1)}


def mean_colour() -> float:
    """The accuracy of a logistic regression on the mean colour of an image."""
    inputs = []
    for subset in ("train", "test"):
        files = [Image.open(item.path) for item in subsets.read(subset).plain()]
        inputs.append(np.array([np.asarray(file).mean(axis=(0, 1)) for file in files]))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(inputs[0], subsets.read("train").labels)
    return round(float(model.score(inputs[1], test_labels())), 4)


def processors(precision: str, sets: Sequence[str]) -> list[dict[str, Any]]:
    """What each set of instructions changes in the predictions, against the processor's own set."""
    labels, own = elsewhere("DEFAULT", precision)
    found = []
    for name in sets:
        _, there = elsewhere(name, precision)
        for blocks, one, other in zip(BLOCKS, own, there, strict=True):
            scores = [classification.scores(labels, each) for each in (one, other)]
            written = [evaluate.rounded(each) for each in scores]
            found.append(
                {
                    "instructions": name,
                    "blocks": blocks,
                    "other labels": int((one.argmax(1) != other.argmax(1)).sum()),
                    "largest difference of a probability": float(f"{np.abs(one - other).max():.1e}"),
                    "difference of log-loss": float(f"{abs(scores[0]['log_loss'] - scores[1]['log_loss']):.1e}"),
                    "metrics.json": "equal" if written[0] == written[1] else "differs",
                }
            )
            print(found[-1], flush=True)
    return found


def elsewhere(instructions: str, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test images, and their probabilities, (BLOCKS, images, classes), from features of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "predictions.npz")
        environment = scratch.environment(Path(folder, "cache")) | {"ONEDNN_MAX_CPU_ISA": instructions}
        command = [sys.executable, __file__, "--predict", str(file), "--precision", precision]
        scratch.run(command, Path.cwd(), environment)
        with np.load(file) as arrays:
            return arrays["labels"], arrays["probabilities"]


def markdown(found: dict[str, Any]) -> str:
    lines = [f"Measured on {found['machine']}.", ""]
    for precision in found.keys() & {"float32", "bfloat16"}:
        lines += [
            f"| {precision} | seeds | test accuracy | standard deviation | range | s a training |",
            "|---" * 6 + "|",
        ]
        for name, row in found[precision].items():
            values = 100 * np.array(row["accuracy"])
            spread = (
                f"{values.std(ddof=1):.2f} | {values.min():.1f} to {values.max():.1f}" if len(values) > 1 else " | "
            )
            lines.append(f"| {name} | {len(values)} | {values.mean():.1f} % | {spread} | {row['seconds']:.0f} |")
        lines.append("")
    for name in sorted(found):
        if name.startswith("processors"):
            lines += ["| " + " | ".join(found[name][0]) + " |", "|---" * len(found[name][0]) + "|"]
            lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in found[name]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
