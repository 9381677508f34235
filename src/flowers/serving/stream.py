"""Any number of images through a model, in batches: decoded ahead in threads, within bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowers.data import images

T = TypeVar("T")

BATCH = 32  # the backbone's own batch size
_AHEAD = 3 * BATCH  # images decoded or in decoding: 15 MB at 224 pixels, plus the full-size pixels in the threads


class Model(Protocol):
    """What predictions are made with: flowers.model.classifier.Classifier, or an exported network."""

    classes: list[str]
    threshold: float | None
    size: int  # of the images, on each side

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities (n, classes) of RGB images (n, size, size, 3)."""
        ...


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Some of the items in their order, with their probabilities.

    `errors` has the reason for each item that is not readable, else None. `pixels` are uint8 RGB (size, size, 3), or
    None for such an item; `probabilities` are float32 (items, classes), or all NaN for it.
    """

    items: list[T]
    errors: list[str | None]
    pixels: list[NDArray[np.uint8] | None]
    probabilities: NDArray[np.float32]


def batches(model: Model, items: Iterable[T], read: Callable[[T], Path | bytes]) -> Generator[Batch[T]]:
    """Predict every item, BATCH at a time; `read` returns an item's file or its encoded bytes.

    `read` runs in threads; images.UnreadableImage, OSError and ValueError from it become the item's error. Items are
    drawn from the iterable only when they are needed, so it may be endless.
    """
    source, view = iter(items), images.View(size=model.size)
    with ThreadPoolExecutor(_cores(), thread_name_prefix="decode") as pool:
        waiting: deque[tuple[T, Future[NDArray[np.uint8] | str]]] = deque()

        def fill() -> None:
            for item in islice(source, _AHEAD - len(waiting)):
                waiting.append((item, pool.submit(_pixels, item, read, view)))

        try:
            fill()
            while waiting:
                taken = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                decoded = [future.result() for _, future in taken]
                fill()  # decoding continues while the network computes
                yield _predicted(model, [item for item, _ in taken], decoded)
        finally:
            for _, future in waiting:
                future.cancel()


def _cores() -> int:
    """Large images take longer to decode than to classify, so every core decodes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pixels(item: T, read: Callable[[T], Path | bytes], view: images.View) -> NDArray[np.uint8] | str:
    try:
        return images.load(read(item), view)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (images.UnreadableImage, ValueError) as error:
        return str(error)


def _predicted(model: Model, items: list[T], decoded: list[NDArray[np.uint8] | str]) -> Batch[T]:
    pixels = [None if isinstance(found, str) else found for found in decoded]
    good = [row for row, found in enumerate(pixels) if found is not None]
    probabilities = np.full((len(items), len(model.classes)), np.nan, np.float32)
    if good:
        probabilities[good] = model.probabilities(np.stack([found for found in pixels if found is not None]))
    return Batch(items, [found if isinstance(found, str) else None for found in decoded], pixels, probabilities)
