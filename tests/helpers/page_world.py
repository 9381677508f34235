"""A server of the page on a free port of this machine, with a model that uses the mean colour of an image."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image
from stand_in import StandIn

from flowers.common.errors import UserError
from flowers.serving.http import app, limits
from flowers.serving.http.batching import Scorer
from flowers.serving.http.explaining import Explainer

COLOURS = {
    "roses": (200, 20, 40),
    "leaves": (40, 140, 50),
    "irises": (60, 50, 190),
    "NA": (240, 240, 240),
    "<b>café": (30, 30, 30),
    "sunflowers": (250, 200, 0),
}


class ByColour(StandIn):
    """A stand-in model: the nearer the mean colour is to that of a class, the more probable the class is."""

    def __init__(self) -> None:
        self.classes, self.threshold, self.size = list(COLOURS), 0.6, 224

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8 and images.shape[1:] == (224, 224, 3)
        means = images.mean(axis=(1, 2))
        apart = np.linalg.norm(means[:, None] - np.array(list(COLOURS.values()))[None], axis=2)
        scores = np.exp(-apart / 20)
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def painted(model, pixels: np.ndarray, number: int) -> bytes:
    """A stand-in for Grad-CAM: the colour of the class."""
    return image(list(COLOURS)[number], size=(224, 224))


def not_explained(model, pixels: np.ndarray, number: int) -> bytes:
    raise UserError("an exported network\ncannot be explained")


def image(name: str, kind: str = "JPEG", size: tuple[int, int] = (300, 250)) -> bytes:
    """An image in the colour of a class."""
    stream = io.BytesIO()
    Image.new("RGB", size, COLOURS[name]).save(stream, kind)
    return stream.getvalue()


@contextlib.contextmanager
def served(explain=painted, examples: Path | None = None, model=None, sent: list[bytes] | None = None) -> Iterator[str]:
    """The address of the application; `sent` collects the bodies of /predict."""
    bounds, model = limits.Limits(), model or ByColour()
    with Scorer(model, bounds) as scorer, Explainer(scorer, bounds, explain) as explainer:
        application = app.create(scorer, explainer, bounds, examples)
        with _listening(application if sent is None else _noting(application, sent)) as url:
            yield url


def _noting(application, sent: list[bytes]):
    async def noting(scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"] == "/predict":
            sent.append(b"")

            async def noted() -> dict:
                message = await receive()
                sent[-1] += message.get("body", b"")
                return message

            await application(scope, noted, send)
        else:
            await application(scope, receive, send)

    return noting


@contextlib.contextmanager
def _listening(application) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
