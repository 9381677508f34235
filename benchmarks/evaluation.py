"""The memory and time of an evaluation beside the network, and of a comparison of its predictions.

    python benchmarks/evaluation.py                                     # 8,000 test images of 1,000 classes
    python benchmarks/evaluation.py --photos 100000 --keep FOLDER       # the outputs stay in FOLDER

The images do not exist. Their probabilities, brightness, pixels and Grad-CAM are drawn; all else is the stage itself,
with a validation image for every four test images. Each part runs in a process of its own; memory is its largest
resident set, TensorFlow included.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import scratch

from flowers.common import paths
from flowers.config import params

ROWS = 1000  # drawn at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=8000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="an empty folder for the outputs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        start = time.perf_counter()
        PARTS[given.part](given.photos)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time()}
        print(
            json.dumps({**{name: round(value, 1) for name, value in times.items()}, "peak_gib": round(peak / 2**20, 2)})
        )
        return
    with tempfile.TemporaryDirectory(prefix="flowers-evaluation-") as work:
        folder = given.keep or Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        list_photos(given.photos, given.classes)
        scratch.write_params(Path(), {})
        result: dict[str, Any] = {"photos": given.photos, "classes": given.classes}
        for part in PARTS:
            command = [sys.executable, str(Path(__file__).resolve()), f"--photos={given.photos}", f"--part={part}"]
            done = subprocess.run(
                command, env=scratch.environment(Path("cache").resolve()), stdout=subprocess.PIPE, text=True
            )
            result[part] = (
                json.loads(done.stdout.splitlines()[-1]) if not done.returncode else f"exit {done.returncode}"
            )
        result["files_mb"] = {
            file.name: round(file.stat().st_size / 1e6, 2) for file in sorted(paths.EVALUATION.glob("*"))
        }
    print(json.dumps(result, indent=1))


def list_photos(test: int, classes: int) -> None:
    """The image list, the split and the history of images that do not exist."""
    paths.BUILD.mkdir()
    counts = {"train": classes, "val": max(classes, test // 4), "test": test}
    labels = [f"class {number % classes:04d}" for count in counts.values() for number in range(count)]
    subsets = [subset for subset, count in counts.items() for _ in range(count)]
    files = [f"{label}/{number:06d}.jpg" for number, label in enumerate(labels)]
    digests = [hashlib.sha256(file.encode()).hexdigest() for file in files]
    split = pd.DataFrame({"path": files, "label": labels, "subset": subsets})
    split.to_csv(paths.SPLIT, index=False)
    split.assign(sha256=digests, pixels=digests, width=640, height=480).to_csv(paths.IMAGE_LIST, index=False)
    epochs = np.arange(1, 31)
    scores = dict.fromkeys(("accuracy", "val_accuracy", "val_mean_per_class_accuracy"), 1 - 1 / epochs)
    losses = dict.fromkeys(("loss", "val_loss"), 2 / epochs)
    pd.DataFrame({"epoch": epochs, "phase": "head", **scores, **losses}).to_csv(paths.HISTORY, index=False)


def drawn(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Probabilities (n, classes) float32 of a fair classifier."""
    rng, found = np.random.default_rng(seed), np.empty((len(labels), classes), np.float32)
    for start in range(0, len(labels), ROWS):
        some = labels[start : start + ROWS]
        rows = np.arange(len(some))
        logits = rng.standard_normal((len(some), classes), np.float32)
        logits[rows, some] += 5.5
        logits[rows, (some + 1) % classes] += rng.normal(2, 2, len(some))
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        found[start : start + ROWS] = exponents / exponents.sum(axis=1, keepdims=True)
    return found


def evaluate(_: int) -> None:
    """The stage, with drawn probabilities, brightness and pixels."""
    from flowers.model import backend, classifier, gradcam
    from flowers.reporting import brightness
    from flowers.stages import evaluate as stage
    from flowers.training import activation_cache, subsets, trained

    backend.make_deterministic(0)
    test, val, noise = subsets.read("test"), subsets.read("val"), np.random.default_rng(2)
    known = {len(each): drawn(each.labels, len(each.classes), seed) for seed, each in enumerate((test, val))}
    description = classifier.Description(test.classes, [], 0, 0, "float32", "", temperature=1.2, threshold=0.5)
    model = SimpleNamespace(classes=test.classes, size=224, description=description)

    def measured(items: Sequence[activation_cache.Item], shown: Collection[int]) -> tuple[np.ndarray, dict[int, Any]]:
        return noise.random(len(items)), {row: noise.integers(0, 256, (224, 224, 3), np.uint8) for row in shown}

    replaced: tuple[tuple[Any, str, Any], ...] = (
        (classifier, "load", lambda *_: model),
        (trained, "probabilities", lambda _, chosen: known[len(chosen)]),
        (stage, "_check_joined", lambda *_: None),
        (brightness, "measure", measured),
        (gradcam, "maps", lambda _, pixels, __: [noise.random((7, 7)) for _ in pixels]),
    )
    for module, name, value in replaced:
        setattr(module, name, value)
    start, before = time.perf_counter(), time.process_time()
    stage.run(params.load().evaluate)
    cpu = time.process_time() - before
    print(f"{time.perf_counter() - start:.1f} s in the stage, {cpu:.1f} s of CPU", file=sys.stderr)


def compare(photos: int) -> None:
    """`flowers compare` of the predictions with themselves, in which a tenth of the images are mixed up."""
    from flowers.reporting import document
    from flowers.runs import predictions
    from flowers.runs.compare import report

    results = []
    for name in ("one", "other"):
        table = predictions.read(paths.PREDICTIONS.read_bytes(), name)
        columns = [column for column in table.columns if column.startswith("p(")]
        if name == "other":
            rows = np.arange(0, photos, 10)
            table.loc[rows, columns] = np.roll(table.loc[rows, columns].to_numpy(), 1, axis=1)
        results.append(predictions.Predictions(name, "", {}, {}, table))
    document.markdown(report.document(results))


PARTS = {"evaluate": evaluate, "compare": compare}


if __name__ == "__main__":
    main()
