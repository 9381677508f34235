"""A server of the page on a free port of this machine, with a network that goes by the mean colour of a photo."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from PIL import Image

from flowers import images
from flowers.errors import UserError
from flowers.serving import answers, page

COLOURS = {
    "roses": (200, 20, 40),
    "leaves": (40, 140, 50),
    "irises": (60, 50, 190),
    "NA": (240, 240, 240),
    "<b>café": (30, 30, 30),
    "sunflowers": (250, 200, 0),
}


class ByColour:
    """Stands in for the network: the nearer the mean colour to that of a class, the more probable it is."""

    def __init__(self) -> None:
        self.classes, self.threshold = list(COLOURS), 0.6

    def probabilities(self, photos: np.ndarray) -> np.ndarray:
        assert photos.dtype == np.uint8 and photos.shape[1:] == (224, 224, 3)
        means = photos.mean(axis=(1, 2))
        apart = np.linalg.norm(means[:, None] - np.array(list(COLOURS.values()))[None], axis=2)
        scores = np.exp(-apart / 20)
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def painted(model, pixels: np.ndarray, number: int) -> bytes:
    """Stands in for Grad-CAM: the colour of the class."""
    return photo(list(COLOURS)[number], size=(224, 224))


def refused(model, pixels: np.ndarray, number: int) -> bytes:
    raise UserError("an exported network\ncannot be explained")


def photo(name: str, kind: str = "JPEG", size: tuple[int, int] = (300, 250)) -> bytes:
    """A photo in the colour of a class."""
    stream = io.BytesIO()
    Image.new("RGB", size, COLOURS[name]).save(stream, kind)
    return stream.getvalue()


def application(model=None, explain=painted, examples: Path | None = None) -> FastAPI:
    """The page and the least /predict that it can ask."""
    app, model = FastAPI(), model or ByColour()
    app.state.sent = []  # the photos that were asked about
    app.include_router(page.router(model, explain, examples))

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        try:
            app.state.sent.append(await request.body())
            pixels = images.load(app.state.sent[-1])
        except images.UnreadableImage as reason:
            return JSONResponse({"error": str(reason)}, 400)
        table = answers.table(model.classes, model.probabilities(pixels[None]), model.threshold)
        return JSONResponse(table.to_dict(orient="records")[0])

    return app


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application's address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
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
