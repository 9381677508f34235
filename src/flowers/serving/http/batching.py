"""Photos of many requests at once: decoded in threads, then computed together with whatever else waits."""

import asyncio
import io
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowers.data import images
from flowers.serving import stream
from flowers.serving.http import limits

_DECODERS = 2
_FRESH = 10.0  # seconds for which an answer proves that the model answers, and the longest wait for a new proof

_Pixels = NDArray[np.uint8]
_Row = NDArray[np.float32]


class Unreadable(Exception):
    """One of a request's photos cannot be read: its place among them, and why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


class _Photo:
    """An encoded photo and what will come of it. Once nobody waits, `content` goes, though queues hold the rest."""

    def __init__(self, content: bytes) -> None:
        self.content: bytes | None = content
        self.answer: Future[_Row] = Future()


class Scorer:
    """Asks one model for any number of requests; a context manager, in which its threads run.

    There is no timer: the network takes what waits, up to `stream.BATCH` photos, as soon as it is free. So a lone photo
    is computed at once, and many are computed together.
    """

    def __init__(self, model: stream.Model, bounds: limits.Limits = limits.Limits()) -> None:  # noqa: B008 - frozen
        self.model, self._limits = model, bounds
        self._asked = 0  # photos not answered yet; touched by the event loop alone
        self._answered = -_FRESH  # when the model last answered, as time.monotonic tells it
        self._ready: queue.SimpleQueue[tuple[_Pixels, Future[_Row]] | None] = queue.SimpleQueue()
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._network = threading.Thread(target=self._compute_all, name="network", daemon=True)

    def __enter__(self) -> Self:
        self._network.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.shutdown(cancel_futures=True)
        self._ready.put(None)
        self._network.join()

    def warm(self) -> None:
        """Answer one photo, so that the first client's does not wait for what is made once. Raises what goes wrong."""
        content = io.BytesIO()
        Image.new("RGB", (self.model.size, self.model.size)).save(content, "JPEG")
        photo = _Photo(content.getvalue())
        self._decode(photo)
        photo.answer.result()

    async def ask(self, photos: Sequence[bytes]) -> NDArray[np.float32]:
        """Probabilities (photos, classes) of encoded photos.

        Cancelled, it leaves what was not yet computed. Raises Unreadable for the first that cannot be read, and
        limits.Refused where too many wait.
        """
        if self._asked + len(photos) > self._limits.waiting:
            raise limits.busy(self._limits)
        waiting = [_Photo(content) for content in photos]
        rows: list[_Row] = []
        self._asked += len(waiting)
        try:
            for photo in waiting:
                self._decoders.submit(self._decode, photo)
            for photo in waiting:
                rows.append(await asyncio.wrap_future(photo.answer))
        except images.UnreadableImage as error:
            raise Unreadable(len(rows), str(error)) from None
        finally:
            self._asked -= len(waiting)
            for photo in waiting:
                photo.content = None
                photo.answer.cancel()
        return np.stack(rows) if rows else np.empty((0, len(self.model.classes)), np.float32)

    async def answers(self) -> bool:
        """Whether the model answers: it did a moment ago, or does so now when it is asked about a blank photo."""
        if time.monotonic() - self._answered < _FRESH:
            return True
        answer: Future[_Row] = Future()
        self._ready.put((np.zeros((self.model.size, self.model.size, 3), np.uint8), answer))
        try:
            async with asyncio.timeout(_FRESH):
                await asyncio.wrap_future(answer)
        except Exception:
            logging.getLogger(__name__).exception("the model does not answer")
            return False
        return True

    def _decode(self, photo: _Photo) -> None:
        content = photo.content
        if content is None:
            return
        try:
            pixels = decoded(content, self._limits, self.model.size)
        except Exception as error:
            if photo.answer.set_running_or_notify_cancel():
                photo.answer.set_exception(error)
        else:
            self._ready.put((pixels, photo.answer))

    def _compute_all(self) -> None:
        while (first := self._ready.get()) is not None:
            batch = [first]
            while len(batch) < stream.BATCH and not self._ready.empty():
                following = self._ready.get()
                if following is None:
                    self._ready.put(None)
                    break
                batch.append(following)
            self._compute([(pixels, answer) for pixels, answer in batch if answer.set_running_or_notify_cancel()])

    def _compute(self, batch: list[tuple[_Pixels, Future[_Row]]]) -> None:
        if not batch:
            return
        try:
            found = self.model.probabilities(np.stack([pixels for pixels, _ in batch]))
        except Exception as error:  # this batch fails; the thread lives on
            for _, answer in batch:
                answer.set_exception(error)
            return
        self._answered = time.monotonic()
        for (_, answer), row in zip(batch, found, strict=True):
            answer.set_result(row)


def decoded(content: bytes, bounds: limits.Limits, size: int) -> _Pixels:
    """An encoded photo as the network sees it. Raises images.UnreadableImage."""
    _judge_size(content, bounds.pixels)
    return images.load(content, images.View(size=size))


def _judge_size(content: bytes, most: int) -> None:
    """Refuse more pixels than `most`, by the header; what else may be wrong with the photo, decoding tells."""
    try:
        with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
            width, height = image.size
    except Exception:
        return
    if width * height > most:
        raise images.UnreadableImage(f"{width} x {height} pixels: more than {most // 1_000_000} megapixels")
