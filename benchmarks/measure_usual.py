"""Timings of the usual Keras script (usual.py), each function in its own process, in a folder of scratch.world."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import usual

from flowers.common import paths
from flowers.config import params

WARM = 2 * usual.BATCH  # images that a first call is warmed up with


def predict(count: int, repeats: int, more: bool = True) -> dict[str, Any]:
    """Seconds for pooled features of `count` images: from arrays; with `more` by tf.function and from files, too."""
    files, labels = _images("train", "val", "test")
    data = usual.dataset(files[:count], labels[:count])
    arrays = np.concatenate([batch for batch, _ in data])
    model = usual.resnet50()
    model.predict(arrays[:WARM], batch_size=usual.BATCH, verbose=0)
    found: dict[str, Any] = {"photos": len(arrays), "predict": [], "function": [], "files": []}
    for _ in range(repeats):
        found["predict"].append(_seconds(lambda: model.predict(arrays, batch_size=usual.BATCH, verbose=0)))
    if more:
        function = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
        batches = [arrays[start : start + usual.BATCH] for start in range(0, len(arrays), usual.BATCH)]
        function(batches[0]), function(batches[-1])
        model.predict(data.take(1), verbose=0)
        found["function"].append(_seconds(lambda: [function(batch).numpy() for batch in batches]))
        found["files"].append(_seconds(lambda: model.predict(data, verbose=0)))
    return found


def files(count: int, repeats: int) -> dict[str, Any]:
    """Seconds of model.predict on the files of `count` images, from JPEG to probabilities."""
    names, labels = _images("train", "val", "test")
    data = usual.dataset(names[:count], labels[:count])
    model = _network(max(labels) + 1, unfreeze_blocks=0)
    model.predict(data.take(2), verbose=0)
    found = [_seconds(lambda: model.predict(data, verbose=0)) for _ in range(repeats)]
    return {"photos": len(names[:count]), "seconds": found}


def epochs(unfreeze_blocks: int, count: int) -> dict[str, Any]:
    """Seconds of epochs with validation, and of what comes before the first one, tracing and two batches included."""
    start = time.perf_counter()
    train, classes = _training("train")
    val = usual.dataset(*_images("val"))
    model = _network(classes, unfreeze_blocks)
    model.fit(train.take(1), validation_data=val.take(1), verbose=0)
    ready = time.perf_counter() - start
    clock = _Clock()
    model.fit(train, validation_data=val, epochs=count, verbose=0, callbacks=[clock])
    images = len(_images("train", "val")[0])
    return {"photos": images, "before": ready, "photos_before": WARM, "epochs": clock.seconds}


def accuracy(epochs: int, seed: int) -> dict[str, Any]:
    """Test accuracy after a fixed number of epochs of the head on the images of train and val together."""
    keras.utils.set_random_seed(seed)
    train, classes = _training("train", "val")
    model = _network(classes, unfreeze_blocks=0)
    clock = _Clock()
    model.fit(train, epochs=epochs, verbose=0, callbacks=[clock])
    files, labels = _images("test")
    predicted = model.predict(usual.dataset(files, labels), verbose=0).argmax(axis=1)
    return {"accuracy": float((predicted == np.array(labels)).mean()), "photos": len(labels), "epochs": clock.seconds}


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """The seconds of every epoch, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def _training(*subsets: str) -> tuple[tf.data.Dataset, int]:
    views = params.load().augmentation
    files, labels = _images(*subsets)
    data = usual.dataset(files, labels, views.views, views.seed, views.min_area, views.flip, shuffle=True)
    return data, max(labels) + 1


def _network(classes: int, unfreeze_blocks: int) -> keras.Model:
    given = params.load()
    rate = given.train.fine_tune_learning_rate if unfreeze_blocks else given.train.learning_rate
    return usual.network(
        classes, unfreeze_blocks, given.head.units, given.head.dropout, rate, given.train.weight_decay, paths.WEIGHTS
    )


def _images(*subsets: str) -> tuple[list[Path], list[int]]:
    with paths.SPLIT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    chosen = [row for row in rows if row["subset"] in subsets]
    return [paths.IMAGES / row["path"] for row in chosen], [classes.index(row["label"]) for row in chosen]


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
