"""What on a photo speaks for a class, over HTTP: the pictures of `flowers.serving.explain`, made one at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from flowers.common.errors import UserError
from flowers.data import images
from flowers.serving import explain
from flowers.serving.http import batching, docs
from flowers.serving.http.limits import Bodies, Limits, Refused, busy, require_photo, unless_gone
from flowers.serving.stream import Model

Explain = Callable[[Model, np.ndarray, int], bytes]  # model, pixels, class number: a JPEG

WAITING = 8  # explanations asked for and not yet given; each holds a photo

_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "The photo in grey, in colour where it speaks for the class."}
}


class Explainer:
    """Makes explanations in a thread, one at a time, so that they take a core at most; a context manager."""

    def __init__(self, model: Model, limits: Limits, picture: Explain = explain.picture) -> None:
        self.model, self._limits, self._picture = model, limits, picture
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting, self._warmed = 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def warm(self) -> None:
        """Begin a first explanation, for which TensorFlow traces the network for seconds, unless that was done.

        What goes wrong in it will go wrong again when somebody asks for one, and is told then.
        """
        if not self._warmed:
            self._warmed = True
            blank = np.zeros((self.model.size, self.model.size, 3), np.uint8)
            self._thread.submit(self._picture, self.model, blank, 0)

    async def answer(self, photo: bytes, label: str | None) -> bytes:
        """A JPEG of what on an encoded photo speaks for a class, the most probable one without a label.

        Raises Refused where there is no such class, too many wait, the model has no explanations, or it is no photo.
        """
        if label is not None and label not in self.model.classes:
            raise Refused(404, f"the model knows no class {label[:80]!r}")
        if self._waiting >= WAITING:
            raise busy(self._limits)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._made, photo, label)
        except images.UnreadableImage as reason:
            raise Refused(400, str(reason)) from None
        except UserError as reason:
            raise Refused(409, str(reason)) from None
        finally:
            self._waiting -= 1

    def _made(self, photo: bytes, label: str | None) -> bytes:
        pixels = batching.decoded(photo, self._limits, self.model.size)
        if label is None:
            number = int(self.model.probabilities(pixels[None])[0].argmax())
        else:
            number = self.model.classes.index(label)
        return self._picture(self.model, pixels, number)


def router(explainer: Explainer, bodies: Bodies) -> APIRouter:
    """POST /explain."""
    routes = APIRouter()

    @routes.post(
        "/explain",
        summary="Show what on a photo speaks for a class",
        response_class=Response,
        responses=_PICTURE | docs.ERRORS,
        openapi_extra=docs.PHOTO,
    )
    async def explanation(request: Request, label: str | None = None) -> Response:
        """The body is the photo as it is, the answer a JPEG (Grad-CAM): of the class `label`, else of the best one."""
        require_photo(request)
        async with bodies.read(request) as photo:
            made = await unless_gone(request, explainer.answer(photo, label))
        return Response(made, media_type="image/jpeg")

    return routes
