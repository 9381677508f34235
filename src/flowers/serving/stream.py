"""Any number of photos through a model, in batches: decoded ahead in threads, within bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowers import images

T = TypeVar("T")

BATCH = 32  # as many as the trunk takes at a time
_THREADS = 2  # a thread decodes several times as fast as the network on a core wants photos
_AHEAD = 3 * BATCH  # photos decoded or being decoded: 15 MB, and the pixels of what is being decoded


class Model(Protocol):
    """What can be asked: flowers.network.classifier.Classifier, or an exported network."""

    classes: list[str]
    threshold: float | None

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities (n, classes) of RGB images (n, 224, 224, 3)."""
        ...


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Some of the items, in their order, and what came of them.

    `errors` has the reason for each item that is no readable photo, else None; `probabilities` (items, classes)
    float32 is all NaN in those rows.
    """

    items: list[T]
    errors: list[str | None]
    probabilities: NDArray[np.float32]


def batches(model: Model, items: Iterable[T], read: Callable[[T], Path | bytes], size: int = BATCH) -> Iterator[Batch]:
    """Ask the model about every item, `size` at a time; `read` gives an item's file or its encoded bytes.

    `read` runs in threads; images.UnreadableImage, OSError and ValueError from it are the item's error. Items are
    drawn from the iterable as they are needed, so it may be endless.
    """
    source = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[T, Future[NDArray[np.uint8] | str]]] = deque()

        def fill() -> None:
            for item in islice(source, _AHEAD - len(waiting)):
                waiting.append((item, pool.submit(_pixels, item, read)))

        try:
            fill()
            while waiting:
                taken = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                decoded = [future.result() for _, future in taken]
                fill()  # the threads go on while the network computes
                yield _asked(model, [item for item, _ in taken], decoded)
        finally:
            for _, future in waiting:
                future.cancel()


def _pixels(item: T, read: Callable[[T], Path | bytes]) -> NDArray[np.uint8] | str:
    try:
        return images.load(read(item))
    except images.UnreadableImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        return str(error)


def _asked(model: Model, items: list[T], decoded: list[NDArray[np.uint8] | str]) -> Batch[T]:
    good = [row for row, pixels in enumerate(decoded) if not isinstance(pixels, str)]
    probabilities = np.full((len(items), len(model.classes)), np.nan, np.float32)
    if good:
        probabilities[good] = model.probabilities(np.stack([decoded[row] for row in good]))
    return Batch(items, [pixels if isinstance(pixels, str) else None for pixels in decoded], probabilities)
