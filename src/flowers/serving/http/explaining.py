"""Grad-CAM over HTTP: one explanation at a time, in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from starlette.exceptions import HTTPException

from flowers.serving import explain
from flowers.serving.http.batching import Pixels, Scorer
from flowers.serving.http.limits import Limits, busy
from flowers.serving.stream import Model

Explain = Callable[[Model, Pixels, int], bytes]  # model, pixels, class number: a JPEG


class Explainer(AbstractContextManager["Explainer"]):
    """Makes explanations one at a time, so that they take one core at most; a context manager."""

    def __init__(self, scorer: Scorer, limits: Limits, explanation: Explain = explain.overlay) -> None:
        self._scorer, self._model, self._limits, self._explain = scorer, scorer.model, limits, explanation
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting, self._warmed = 0, False

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def warm(self) -> None:
        """Start a first explanation, once: TensorFlow traces the network for seconds. Errors are dropped here."""
        if not self._warmed:
            self._warmed = True
            self._thread.submit(self._explain, self._model, self._scorer.blank(), 0)

    async def explanation(self, content: bytes, label: str | None) -> bytes:
        """A JPEG of Grad-CAM, by default of the most probable class. Raises as `decode`, HTTPException (404, 503)."""
        classes = self._model.classes
        if label is not None and label not in classes:
            raise HTTPException(404, f"the model has no class {label[:80]!r}")
        if self._waiting >= self._limits.explanations:
            raise busy()
        self._waiting += 1
        try:
            pixels = await self._scorer.decode(content)
            number = (
                int((await self._scorer.score(pixels)).probabilities.argmax())
                if label is None
                else classes.index(label)
            )
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._explain, self._model, pixels, number)
        finally:
            self._waiting -= 1
