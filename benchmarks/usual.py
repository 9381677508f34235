"""A usual Keras script: ResNet50 on images that are decoded again in every epoch. The baseline of bench.py.

    python benchmarks/usual.py FOLDER --unfreeze-blocks 3 --epochs 2

FOLDER holds {train,val}/<class>/<image>, or <class>/<image> of which every fifth validates. It is a plain
script, written to be fast: parallel decoding with prefetch, batches of 32, a frozen base, float32. Images, augmented
views, weights and head are those of the project, and so is the setting TF_ENABLE_ONEDNN_OPTS=1: on some processors
TensorFlow disables oneDNN's kernels, although they are twice as fast there, and the comparison would be unfair.
"""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # read when TensorFlow is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from flowers.data import images

BATCH = 32
WEIGHTS = Path("build/weights/resnet50.npz")
BLOCKS = [f"conv{stage}_block{n}_" for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)) for n in range(1, count + 1)]
SUFFIXES = (".jpg", ".jpeg", ".png")


def dataset(
    files: Sequence[Path],
    labels: Sequence[int],
    random_views: int = 0,
    view_seed: int = 0,
    min_area: float = 0.5,
    flip: bool = True,
    shuffle: bool = False,
) -> tf.data.Dataset:
    """Batches of images, each in its plain view or one of its fixed augmented views, chosen again in each epoch."""
    views = [_views(file, random_views, view_seed, min_area, flip) for file in files]
    boxes = np.array([[box for box, _ in of_image] for of_image in views], np.float32)
    flips = np.array([[mirrored for _, mirrored in of_image] for of_image in views])
    data = tf.data.Dataset.from_tensor_slices(([str(file) for file in files], boxes, flips, np.array(labels)))
    if shuffle:
        data = data.shuffle(len(files))
    return data.map(_load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def _views(
    file: Path, count: int, seed: int, min_area: float, flip: bool
) -> list[tuple[tuple[float, float, float, float], bool]]:
    """The views of an image as boxes (left, top, right, bottom) in fractions, and whether they are mirrored."""
    size = images.measure(file)
    across, down = (min(size.width, size.height) / side for side in (size.width, size.height))
    plain = ((1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    drawn = images.random_views(digest, size.width, size.height, count, seed, min_area, flip)
    return [(plain, False), *((view.box or plain, view.flip) for view in drawn)]


def _load(path: Any, boxes: Any, flips: Any, label: Any) -> tuple[Any, Any]:
    view = tf.random.uniform((), maxval=tf.shape(boxes)[0], dtype=tf.int32)
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    edges = tf.cast(tf.round(boxes[view] * tf.cast([width, height, width, height], tf.float32)), tf.int32)
    image = tf.image.resize(image[edges[1] : edges[3], edges[0] : edges[2]], (224, 224), "bicubic", antialias=True)
    image = tf.clip_by_value(image, 0, 255)
    image = tf.cond(flips[view], lambda: tf.image.flip_left_right(image), lambda: image)
    image.set_shape((224, 224, 3))
    return keras.applications.resnet50.preprocess_input(image), label


def resnet50(weights: Path = WEIGHTS) -> keras.Model:
    """Preprocessed images (n, 224, 224, 3) to pooled features (n, 2048)."""
    given = weights.is_file()
    model = keras.applications.ResNet50(
        weights=None if given else "imagenet", include_top=False, pooling="avg", input_shape=(224, 224, 3)
    )
    if given:
        with np.load(weights) as tensors:
            for layer in model.layers:
                layer.set_weights([tensors[f"{layer.name}/{variable.name}"] for variable in layer.weights])
    return model


def network(
    classes: int,
    unfreeze_blocks: int = 0,
    units: Sequence[int] = (256, 128, 64),
    dropout: float = 0.2,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    weights: Path = WEIGHTS,
) -> keras.Model:
    """Preprocessed images to probabilities, compiled; the last `unfreeze_blocks` residual blocks are trained too."""
    base = resnet50(weights)
    base.trainable = False
    if unfreeze_blocks:
        base.trainable = True
        for layer in base.layers:
            # One by one, because `training=False` alone does not fix BatchNorm's statistics in `fit`.
            fixed = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = layer.name.startswith(tuple(BLOCKS[-unfreeze_blocks:])) and not fixed
    inputs = keras.Input((224, 224, 3))
    x = base(inputs, training=False)
    for width in units:
        x = keras.layers.Dense(width, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
    model.compile(
        keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unfreeze-blocks", type=int, default=0, choices=range(17), metavar="0...16")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--linear", action="store_true", help="no hidden layers in the head")
    parser.add_argument("--views", type=int, default=2, help="augmented views of each image besides the plain one")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="an .npz; without it Keras fetches its own")
    given = parser.parse_args()
    train, val = _listed(given.folder)
    classes = sorted({file.parent.name for file in train})

    def labels(files: list[Path]) -> list[int]:
        return [classes.index(file.parent.name) for file in files]

    keras.utils.set_random_seed(0)
    model = network(
        len(classes),
        given.unfreeze_blocks,
        units=() if given.linear else (256, 128, 64),
        learning_rate=given.learning_rate,
        weights=given.weights,
    )
    model.fit(
        dataset(train, labels(train), random_views=given.views, shuffle=True),
        validation_data=dataset(val, labels(val)),
        epochs=given.epochs,
    )


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images to train on and those to validate on."""
    parts = [folder / "train", folder / "val"] if (folder / "train").is_dir() else [folder]
    found = [sorted(f for f in part.glob("*/*") if f.suffix.lower() in SUFFIXES) for part in parts]
    if len(found) == 2:
        return found[0], found[1]
    return [file for n, file in enumerate(found[0]) if n % 5], found[0][::5]


if __name__ == "__main__":
    main()
