"""Times of comparing two results of Oxford's test set, of resampling one, and of a Grad-CAM.

    python benchmarks/trust.py        # in a checkout whose pipeline has run, for the Grad-CAM

Predictions of 6,149 images and 102 classes are drawn; medians of 5, imports left out. Prints a line each and writes
benchmarks/results/trust.json.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.common import paths
from flowers.data import images
from flowers.metrics import bootstrap, paired
from flowers.model import classifier, gradcam
from flowers.reporting import document
from flowers.runs.compare import report
from flowers.runs.predictions import Predictions

PHOTOS, CLASSES, TIMES = 6149, 102, 5
RESULT = Path(__file__).parent / "results" / "trust.json"


def drawn(name: str, labels: np.ndarray, sharpness: float, rng: np.random.Generator) -> Predictions:
    logits = rng.normal(size=(PHOTOS, CLASSES))
    logits[np.arange(PHOTOS), labels] += sharpness
    exponents = np.exp(logits)
    names = [f"class {number:03d}" for number in range(CLASSES)]
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(PHOTOS)]
    rows = {"path": hashes, "sha256": hashes, "label": [names[label] for label in labels]}
    probabilities = pd.DataFrame(exponents / exponents.sum(axis=1, keepdims=True), columns=[f"p({n})" for n in names])
    table = pd.concat([pd.DataFrame(rows), probabilities], axis=1)
    return Predictions(name, "drawn", {}, {"code": "drawn"}, table.sort_values("sha256", ignore_index=True))


def seconds(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(CLASSES), rng.integers(CLASSES, size=PHOTOS - CLASSES)])
    one, other = (drawn(name, labels, sharpness, rng) for name, sharpness in (("one", 4.0), ("other", 4.3)))
    paired.mcnemar(one.labels, one.predicted, other.predicted)  # imports SciPy's statistics
    model = classifier.load(paths.MODEL, paths.WEIGHTS)
    photos = [images.load(path) for path in sorted(paths.IMAGES.rglob("*.*"))[:20]]
    gradcam.maps(model, photos[:1], [0])  # builds the network
    found: dict[str, Any] = {
        "flowers compare, from predictions to Markdown": seconds(
            lambda: document.markdown(report.document([one, other]))
        ),
        "10,000 resamples of one": seconds(lambda: bootstrap.intervals(one.labels, one.probabilities, 10_000, 0)),
        "Grad-CAM of an image": seconds(lambda: gradcam.maps(model, photos, [0] * len(photos))) / len(photos),
    }
    for name, value in found.items():
        print(f"{name}: {value:.3f} s")
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
