"""Any number of images through a model, in batches: decoded ahead in threads, within bounded memory."""

import contextlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowers.common import ahead
from flowers.data import images
from flowers.model.predicted import Predicted, predicted

T = TypeVar("T")

BATCH = 32  # the backbone's own batch size
_AHEAD = 3 * BATCH  # images decoded or in decoding: 15 MB at 224 pixels, plus the full-size pixels in the threads


class Model(Protocol):
    """What predictions are made with: flowers.model.classifier.Classifier, or an exported network."""

    classes: list[str]
    threshold: float | None
    size: int  # of the images, on each side
    examples: Path | None  # the folder with the most typical training image of each class, <its number>.jpg

    def predict(self, images: NDArray[np.uint8]) -> Predicted:
        """Predictions for RGB images (n, size, size, 3)."""
        ...


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Some of the items in their order, with their predictions."""

    items: list[T]
    errors: list[str | None]  # why an item is not readable
    pixels: list[NDArray[np.uint8] | None]  # RGB (size, size, 3); None for an unreadable item
    predicted: Predicted  # of the items; NaN for an unreadable one


def batches(model: Model, items: Iterable[T], read: Callable[[T], Path | bytes]) -> Generator[Batch[T]]:
    """Predict every item, BATCH at a time; `read` returns an item's file or its encoded bytes.

    It runs in threads; UnreadableImage, OSError and ValueError become the item's error. Items are drawn when needed.
    """
    view = images.View(size=model.size)

    def decoded(item: T) -> tuple[T, NDArray[np.uint8] | str]:
        return item, _pixels(item, read, view)

    # Large images take longer to decode than to classify, so every core decodes.
    with contextlib.closing(ahead.computed(decoded, items, _AHEAD)) as ready:
        while taken := list(islice(ready, BATCH)):
            yield _predicted(model, taken)


def _pixels(item: T, read: Callable[[T], Path | bytes], view: images.View) -> NDArray[np.uint8] | str:
    try:
        return images.load(read(item), view)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (images.UnreadableImage, ValueError) as error:
        return str(error)


def _predicted(model: Model, decoded: list[tuple[T, NDArray[np.uint8] | str]]) -> Batch[T]:
    items, found = zip(*decoded, strict=True)
    pixels = [None if isinstance(one, str) else one for one in found]
    good = [row for row, one in enumerate(pixels) if one is not None]
    none = np.empty((0, len(model.classes)), np.float32)
    some = model.predict(np.stack([found[row] for row in good])) if good else predicted(none)
    errors = [one if isinstance(one, str) else None for one in found]
    return Batch(list(items), errors, pixels, some.spread(good, len(items)))
