"""The effect of bfloat16: pooled features of the same images in both precisions, and a linear probe on each.

    python benchmarks/precision.py /photos/five_class

The folder holds <class>/<file>. The default is the drawn sample in data/. On a processor without bfloat16 it is
emulated, with the same numbers. The script prints the cosine between the features of an image, and the accuracy of a
logistic regression over ten stratified splits, 70 % to train.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowers.common import paths
from flowers.model import weights
from flowers.model.feature_layer import FeatureLayer
from flowers.training import activation_cache
from flowers.training.activation_cache import Item

SPLITS = StratifiedShuffleSplit(n_splits=10, train_size=0.7, random_state=0)


def main(folder: Path) -> None:
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    labels = np.array([path.parent.name for path in files])
    items = [Item(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    tensors = weights.read(paths.WEIGHTS)
    exact, rounded = (features(items, tensors, precision) for precision in ("float32", "bfloat16"))
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    print(f"{len(files)} images of {len(set(labels))} classes in {folder.name}")
    below = (cosines < 0.9995).mean()
    print(
        f"cosine: median {np.median(cosines):.5f}, least {cosines.min():.5f}, below 0.9995 in {below:.1%} of the images"
    )
    scores = {name: probe(values, labels) for name, values in (("float32", exact), ("bfloat16", rounded))}
    for name, found in scores.items():
        print(f"linear probe in {name}: {found.mean():.2%} (over 10 splits: {found.std():.2%})")
    difference = scores["bfloat16"] - scores["float32"]
    low, high = 100 * difference.min(), 100 * difference.max()
    print(f"difference on the same split: {100 * difference.mean():+.2f} points ({low:+.2f} to {high:+.2f})")


def features(items: list[Item], tensors: weights.Tensors, precision: str) -> np.ndarray:
    return activation_cache.stored(items, [FeatureLayer(0)], tensors, precision)[FeatureLayer(0)][:].astype(np.float64)


def probe(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    splits = SPLITS.split(values, labels)
    return np.array([model.fit(values[a], labels[a]).score(values[b], labels[b]) for a, b in splits])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data"))
    main(parser.parse_args().folder)
