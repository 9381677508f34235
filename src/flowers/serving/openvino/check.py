"""The check of an int8 network: its predictions against those of the model that it was made from."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowers.common import console
from flowers.serving.stream import BATCH, Model
from flowers.training.activation_cache import Item, pixels

LOST = 0.005  # the largest decrease of the share of validation images that are right
CHANGED = 0.02  # the largest share of the compared images whose label may change


@dataclass(frozen=True)
class Checked:
    """The comparison of two models, in numbers of images."""

    validation: int
    right_before: int  # validation images that the first model labels correctly
    lost: int  # those that only the first model labels correctly
    gained: int  # those that only the second model labels correctly
    compared: int  # validation images and, where these are few, training images
    changed: int  # compared images with another label

    def __str__(self) -> str:
        before, after = self.right_before, self.right_before - self.lost + self.gained
        was, now = (console.percent(right / self.validation) for right in (before, after))
        return (
            f"{was} of {self.validation} validation images right before, {now} after; another label for "
            f"{self.changed} of {self.compared} images ({console.percent(self.changed / self.compared)})"
        )


def failure(found: Checked) -> str | None:
    """Why the network fails the check (see LOST and CHANGED), or None. A single image never fails it."""
    net = found.lost - found.gained
    if net > max(1, LOST * found.validation):
        return (
            f"{console.percent(net / found.validation)} fewer validation images are right, more than "
            f"{console.percent(LOST)} ({found.lost} lost, {found.gained} gained)"
        )
    if found.changed > max(1, CHANGED * found.compared):
        changed, most = console.percent(found.changed / found.compared), console.percent(CHANGED, 0)
        return f"{changed} of the images get another label, more than {most}"
    return None


def compare(
    before: Model, after: Model, validation: Sequence[Item], labels: NDArray[np.integer], others: Sequence[Item]
) -> tuple[Checked, float | None]:
    """Compare two models on validation images, with `labels` (n,), and others; also how many times as fast `after` is.

    That is by the fastest full batch of each; None with fewer than three. Raises UserError for an unreadable image.
    """
    seconds, predicted = [], []
    items = [*validation, *others]
    for number, images in enumerate(_batches(items)):
        both, taken = zip(*(_predictions(model, images) for model in (before, after)), strict=True)
        predicted.append(both)
        if number and len(images) == BATCH:  # the first one waits for TensorFlow to trace
            seconds.append(taken)
    old, new = np.concatenate(predicted, axis=1)
    right_before, right_after = (found[: len(validation)] == labels for found in (old, new))
    found = Checked(
        validation=len(validation),
        right_before=int(right_before.sum()),
        lost=int((right_before & ~right_after).sum()),
        gained=int((right_after & ~right_before).sum()),
        compared=len(items),
        changed=int((old != new).sum()),
    )
    slow, fast = np.min(seconds, axis=0) if len(seconds) >= 3 else (0.0, 0.0)
    return found, float(slow / fast) if fast else None


def _batches(items: Sequence[Item]) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(2) as pool, console.progress_bar(len(items), "Comparing", "images") as bar:
        for start in range(0, len(items), BATCH):
            found = np.stack(list(pool.map(pixels, items[start : start + BATCH])))
            yield found
            bar.update(len(found))


def _predictions(model: Model, images: NDArray[np.uint8]) -> tuple[NDArray[np.intp], float]:
    start = time.perf_counter()
    return model.probabilities(images).argmax(axis=1), time.perf_counter() - start
