"""What bfloat16 and int8 change: the speed of the frozen network, its features, and a linear probe on these.

    python benchmarks/precision.py /photos/five_class
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/precision.py --speed    # as on a processor without VNNI

The folder holds <class>/<file>.jpg, in subsets or not. The default is the drawn sample in data/. On a processor without
bfloat16 it is emulated, with the same numbers, so it is not timed. The script prints images per second beside those of
Keras's usual `model.predict` in float32 (which in some processes has half its speed), the cosine between the features
of an image, and the accuracy of a logistic regression over ten stratified splits, 70 % to train. int8 needs OpenVINO
(make extras).
"""

import argparse
import hashlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowers.common import extras, paths
from flowers.model import backend, keras_model, weights
from flowers.model.backbone import BATCH, Backbone
from flowers.model.feature_layer import FeatureLayer
from flowers.model.int8 import Int8Backbone
from flowers.training import activation_cache
from flowers.training.activation_cache import Item

SPLITS = StratifiedShuffleSplit(n_splits=10, train_size=0.7, random_state=0)
TIMED, ROUNDS = 3 * BATCH, 5  # images, and times that each network processes them
OTHERS = ("bfloat16", "int8")


def main(folder: Path, only_speed: bool) -> None:
    files = sorted(path for path in folder.rglob("*.jpg"))
    labels = np.array([path.parent.name for path in files])
    items = [Item(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    tensors = weights.read(paths.WEIGHTS)
    print(f"{len(files)} images of {len(set(labels))} classes in {folder.name}")
    speed(np.stack([activation_cache.pixels(item) for item in items[:: len(items) // TIMED][:TIMED]]), tensors)
    if only_speed:
        return
    exact = features(items, tensors, "float32")
    before = probe(exact, labels)
    print(f"linear probe in float32: {before.mean():.2%} (over 10 splits: {before.std():.2%})")
    for name in OTHERS if not extras.missing("openvino") else OTHERS[:1]:
        found = features(items, tensors, name)
        cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
        print(f"{name}: cosine to float32: median {np.median(cosines):.5f}, least {cosines.min():.5f}")
        score = probe(found, labels)
        low, mean, high = (100 * of(score - before) for of in (np.min, np.mean, np.max))
        print(
            f"{name}: linear probe {score.mean():.2%}, on the same split {mean:+.2f} points ({low:+.2f} to {high:+.2f})"
        )


def speed(pixels: np.ndarray, tensors: weights.Tensors) -> None:
    """Print the median images per second of each network; they take turns."""
    keras, layer = backend.keras(), FeatureLayer(0)
    usual = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    keras_model.set_tensors(usual, tensors)

    def predict() -> None:
        usual.predict(keras.applications.resnet.preprocess_input(pixels.astype(np.float32)), verbose=0)

    def batches(backbone: Any) -> Callable[[], object]:
        return lambda: deque(backbone.batches(iter(pixels)), maxlen=0)

    timed = {"model.predict": predict, "float32": batches(Backbone(tensors, [layer], "float32"))}
    if not extras.missing("openvino"):
        timed["int8"] = batches(Int8Backbone(tensors, [layer]))
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(1 + ROUNDS):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(found[1:])) for name, found in seconds.items()}  # the first one traces
    for name, found in medians.items():
        print(f"{name}: {len(pixels) / found:.1f} images/s, {medians['model.predict'] / found:.2f} of model.predict")


def features(items: list[Item], tensors: weights.Tensors, precision: str) -> np.ndarray:
    return activation_cache.stored(items, [FeatureLayer(0)], tensors, precision)[FeatureLayer(0)][:].astype(np.float64)


def probe(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    splits = SPLITS.split(values, labels)
    return np.array([model.fit(values[a], labels[a]).score(values[b], labels[b]) for a, b in splits])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--speed", action="store_true", help="only the images per second")
    options = parser.parse_args()
    main(options.folder, options.speed)
