"""How hard is the drawn sample? What its mean colours tell about the class, and what ResNet50's features do.

The sample is meant to be a task: colour alone should fail (under 60 %), and a linear classifier on frozen ImageNet
features should do well, yet not perfectly (90 to 99 %; at least 85 % when it learns from 42 pictures per class).

    python benchmarks/sample_difficulty.py build/weights/resnet50.npz

The file holds Keras's ResNet50 as arrays named <layer>/<variable>, such as conv1_conv/kernel and conv1_bn/moving_mean.
Without it only the colours are measured.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import BaseCrossValidator, StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import draw_sample as sample

FEW = 42


def drawn(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 256, 256, 3), uint8, as a reader of the files sees them, and the number of each one's class."""
    with tempfile.TemporaryDirectory() as folder:
        sample.draw(Path(folder), per_class, seed)
        files = [sorted(Path(folder, label).glob("*.jpg")) for label in sample.LABELS]
        pictures = np.stack([np.asarray(Image.open(file)) for group in files for file in group])
    return pictures, np.repeat(np.arange(len(sample.LABELS)), per_class)


def backbone_features(pictures: np.ndarray, weights: Path) -> np.ndarray:
    """What ResNet50's average pooling says of the pictures at 224 × 224, (N, 2048)."""
    import keras

    model = keras.applications.ResNet50(weights=None)
    with np.load(weights) as arrays:
        for layer in model.layers:
            layer.set_weights([arrays[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    backbone = keras.Model(model.input, model.get_layer("avg_pool").output)
    found: list[Any] = []
    # Batch by batch: a thousand decoded pictures in float32 are most of a gigabyte, and Keras copies them.
    for batch in np.array_split(pictures, max(1, len(pictures) // 25)):
        small = [np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BILINEAR), "float32") for p in batch]
        found.append(backbone.predict_on_batch(keras.applications.resnet50.preprocess_input(np.stack(small))))
    return np.concatenate(found)


def linear() -> ClassifierMixin:
    """Standardisation and logistic regression, regularised as 2,048 features want it."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def measure(weights: Path | None, per_class: int, seed: int) -> Table:
    """The table of accuracies, each with its standard deviation over the splits."""
    table = Table("features", "classifier", "trained on", "accuracy", "±")
    pictures, classes = drawn(per_class, seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def row(kind: str, name: str, classifier: ClassifierMixin, inputs: np.ndarray, split: BaseCrossValidator) -> None:
        scores = cross_val_score(classifier, inputs, classes, cv=split)
        seen = len(next(split.split(inputs, classes))[0])
        table.add_row(kind, name, f"{seen} of {len(classes)}", f"{scores.mean():.1%}", f"{scores.std():.1%}")

    colours = pictures.mean(axis=(1, 2))
    row("mean colour", "logistic", make_pipeline(StandardScaler(), LogisticRegression()), colours, folds)
    row("mean colour", "forest", RandomForestClassifier(300, random_state=0), colours, folds)
    row("mean colour", "15 neighbours", make_pipeline(StandardScaler(), KNeighborsClassifier(15)), colours, folds)
    if weights is not None:
        other, other_classes = drawn(FEW, seed + 1)
        everything = backbone_features(np.concatenate([pictures, other]), weights)
        features, other_features = everything[: len(pictures)], everything[len(pictures) :]
        row("ResNet50", "logistic", linear(), features, folds)
        few = StratifiedShuffleSplit(10, train_size=FEW * len(sample.LABELS), random_state=0)
        row("ResNet50", "logistic", linear(), features, few)
        learned = linear().fit(other_features, other_classes)
        score = f"{learned.score(features, classes):.1%}"
        table.add_row("ResNet50", "logistic", f"{len(other)} of another seed", score, "")
        report_confusions(classes, learned.predict(features))
    return table


def report_confusions(classes: np.ndarray, predicted: np.ndarray) -> None:
    """Print which class is taken for which."""
    table = Table("true \\ predicted", *sample.LABELS)
    for label, counts in zip(sample.LABELS, confusion_matrix(classes, predicted), strict=True):
        table.add_row(label, *map(str, counts))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?", help="ResNet50 on ImageNet, .npz")
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    Console().print(measure(given.weights, given.per_class, given.seed))
