"""Images of many requests at once: decoded in threads, then scored together in batches."""

import asyncio
import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from flowers.data import images
from flowers.model.predicted import Predicted
from flowers.serving.http import memory
from flowers.serving.http.limits import Limits, busy
from flowers.serving.stream import BATCH, Model

_DECODERS = 2
_IDLE = 2.0  # seconds without an image, after which memory is given back
_FRESH = 10.0  # seconds for which a prediction proves that the model works, and the longest wait for a new proof

Pixels = NDArray[np.uint8]


class Scorer(AbstractContextManager["Scorer"]):
    """Scores the images of all requests with one model; a context manager, because it owns threads.

    As soon as the network is free, it takes up to BATCH of the waiting images. One event loop calls all but `warm`.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self._limits = model, limits
        self._waiting = 0  # images that are not scored yet
        self._ready: dict[asyncio.Future[Predicted], Pixels] = {}  # decoded images that the network has not taken yet
        self._batches: asyncio.Task[None] | None = None
        self._scored_at = -_FRESH
        self._trim: asyncio.TimerHandle | None = None
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="decode large")
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")

    def __exit__(self, *_: object) -> None:
        self._decoders.shutdown(cancel_futures=True)
        self._large.shutdown(cancel_futures=True)
        self._network.shutdown(cancel_futures=True)

    def warm(self) -> None:
        """Score a blank image, so that the first client need not wait for the compilation. Raises what goes wrong."""
        self._network.submit(self.model.predict, self.blank()[None]).result()

    async def predict(self, content: bytes) -> Predicted:
        """The prediction, one row, for an encoded image. Raises UnreadableImage; HTTPException (503) if many wait."""
        if self._waiting >= self._limits.waiting:
            raise busy()
        self._waiting += 1
        try:
            return await self.score(await self.decode(content))
        finally:
            self._waiting -= 1

    async def decode(self, content: bytes) -> Pixels:
        """Decode an image to the network's input, uint8 (size, size, 3). Raises UnreadableImage.

        Large images are decoded one at a time, which bounds the pixels in memory and keeps no other image waiting.
        """
        held = [content]  # emptied when the client is gone: the executor keeps its arguments until it reaches them
        view, limits = images.View(size=self.model.size), self._limits

        def whole() -> Pixels:
            return images.load(held[0], view, limits.pixels)

        def unless_large() -> Pixels | None:
            pixels = images.decoded_pixels(held[0], view, limits.pixels)
            return whole() if pixels <= limits.large else None

        loop = asyncio.get_running_loop()
        try:
            decoded = await loop.run_in_executor(self._decoders, unless_large)
            return await loop.run_in_executor(self._large, whole) if decoded is None else decoded
        finally:
            held.clear()
            if self._trim:
                self._trim.cancel()
            self._trim = loop.call_later(_IDLE, loop.run_in_executor, self._decoders, memory.trim)

    async def score(self, pixels: Pixels) -> Predicted:
        """The prediction, one row, for a decoded image."""
        row: asyncio.Future[Predicted] = asyncio.get_running_loop().create_future()
        self._ready[row] = pixels
        if self._batches is None or self._batches.done():
            self._batches = asyncio.create_task(self._score_batches())
        try:
            return await row
        finally:
            self._ready.pop(row, None)

    async def healthy(self) -> bool:
        """Whether the model works: it has scored an image within the last 10 s, or scores a blank one now."""
        if time.monotonic() - self._scored_at >= _FRESH:
            try:
                await asyncio.wait_for(self.score(self.blank()), _FRESH)
            except Exception:
                logging.getLogger(__name__).exception("the model does not work")
                return False
        return True

    async def _score_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ready:
            batch = dict(itertools.islice(self._ready.items(), BATCH))
            for row in batch:
                del self._ready[row]
            stacked = np.stack(list(batch.values()))
            try:
                found = await loop.run_in_executor(self._network, self.model.predict, stacked)
            except Exception as error:  # only this batch fails
                for row in batch:
                    if not row.done():
                        row.set_exception(error)
                continue
            self._scored_at = time.monotonic()
            for place, row in enumerate(batch):
                if not row.done():
                    row.set_result(found[place : place + 1])

    def blank(self) -> Pixels:
        """A black image."""
        return np.zeros((self.model.size, self.model.size, 3), np.uint8)
