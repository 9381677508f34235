"""The proof of an export: its predictions on the validation images against those of the model that it was made from."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowers.common import console
from flowers.serving.stream import BATCH, Model
from flowers.training.activation_cache import Item, pixels

LOST = 0.005  # int8: the largest decrease of the share of validation images that are right
CHANGED = 0.02  # int8: the largest share of the compared images whose label may change
# The largest difference of a probability, and how many labels may change; None: what int8 may lose instead.
DIFFERENCE: dict[str, float | None] = {"float32": 1e-4, "float16": 1e-2, "int8": None}
LABELS = 1


@dataclass(frozen=True)
class Proof:
    """The comparison of two models, in numbers of images."""

    validation: int
    right_before: int  # validation images that the first model labels correctly
    lost: int  # those that only the first model labels correctly
    gained: int  # those that only the second model labels correctly
    compared: int  # validation images and, where these are few, training images
    changed: int  # compared images with another label
    difference: float  # the largest of a probability
    speed: tuple[float, float] | None  # images a second of each, by its fastest full batch; None with fewer than three

    @property
    def right_after(self) -> int:
        """Validation images that the second model labels correctly."""
        return self.right_before - self.lost + self.gained


def failure(found: Proof, precision: str) -> str | None:
    """Why an export in this precision fails the proof, or None. A single image never fails it."""
    limit = DIFFERENCE[precision]
    if limit is not None:
        if found.changed > LABELS:
            return f"{found.changed} of {found.compared} images get another label, more than {LABELS}"
        if not found.difference <= limit:
            return f"a probability differs by {found.difference:.2g}, more than {limit:g}"
        return None
    net = found.lost - found.gained
    if net > max(1, LOST * found.validation):
        fewer, allowed = console.percent(net / found.validation), console.percent(LOST)
        return (
            f"{fewer} fewer validation images are right, more than {allowed} ({found.lost} lost, {found.gained} gained)"
        )
    if found.changed > max(1, CHANGED * found.compared):
        changed, allowed = console.percent(found.changed / found.compared), console.percent(CHANGED)
        return f"{changed} of the images get another label, more than {allowed}"
    return None


def compare(
    before: Model, after: Model, validation: Sequence[Item], labels: NDArray[np.integer], others: Sequence[Item] = ()
) -> Proof:
    """Compare two models on validation images, with `labels` (n,), and others. Raises UserError for an unreadable one.

    Both predict the same batch in turn, so that what else the machine does slows both.
    """
    seconds, predicted = [], []
    items = [*validation, *others]
    for number, images in enumerate(_batches(items)):
        both, taken = zip(*(_predictions(model, images) for model in (before, after)), strict=True)
        predicted.append(both)
        if number and len(images) == BATCH:  # the first one waits for TensorFlow to trace
            seconds.append(taken)
    old, new = np.concatenate(predicted, axis=1)
    labels_before, labels_after = old.argmax(axis=1), new.argmax(axis=1)
    right_before, right_after = (found[: len(validation)] == labels for found in (labels_before, labels_after))
    fastest = BATCH / np.min(seconds, axis=0) if len(seconds) >= 3 else None
    return Proof(
        validation=len(validation),
        right_before=int(right_before.sum()),
        lost=int((right_before & ~right_after).sum()),
        gained=int((right_after & ~right_before).sum()),
        compared=len(items),
        changed=int((labels_before != labels_after).sum()),
        difference=float(np.abs(old - new).max()),
        speed=None if fastest is None else (float(fastest[0]), float(fastest[1])),
    )


def _batches(items: Sequence[Item]) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(2) as pool, console.progress_bar(len(items), "Comparing", "images") as bar:
        for start in range(0, len(items), BATCH):
            found = np.stack(list(pool.map(pixels, items[start : start + BATCH])))
            yield found
            bar.update(len(found))


def _predictions(model: Model, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    start = time.perf_counter()
    return model.predict(images).probabilities, time.perf_counter() - start
