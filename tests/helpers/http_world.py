"""The application without a network and without a port: a stand-in model for colours, and a client in the process."""

import asyncio
import io
import json
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from flowers.serving.http import app
from flowers.serving.http.batching import Scorer
from flowers.serving.http.explaining import Explainer
from flowers.serving.http.limits import Limits


def image(colour: str, kind: str = "PNG", size: tuple[int, int] = (300, 250)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


RED, GREEN, BLUE = image("#ff0000"), image("#00ff00", "JPEG"), image("#0000ff")


class ByColour(StandIn):
    """The share of red, green and blue in an image. It waits while `open` is not set; `batches` are their sizes."""

    classes = ["rose", "leaf", "NA"]  # noqa: RUF012 - as the protocol has it
    threshold = 0.6
    size = 224

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.broken = False

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8 and images.shape[1:] == (224, 224, 3)
        self.batches.append(len(images))
        assert self.open.wait(30)
        if self.broken:
            raise RuntimeError("out of memory in /secret/place.py")
        sums = images.sum(axis=(1, 2)).astype(np.float32) + 1
        return sums / sums.sum(axis=1, keepdims=True)


class Reply:
    """A response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The line of an error; asserts that the response holds nothing else."""
        assert 400 <= self.status < 600 and self.headers["content-type"] == "application/json"
        ((key, line),) = self.json.items()
        assert key == "error" and line and "\n" not in line and len(line) <= 300
        return line


class Here:
    """The application around a stand-in model, and an event loop to call it in."""

    def __init__(self, runner: asyncio.Runner, scorer: Scorer, limits: Limits) -> None:
        self.scorer, self.app = scorer, app.create(scorer, Explainer(scorer, limits), limits)
        self._runner = runner

    def run(self, work):
        return self._runner.run(work)

    def get(self, target: str) -> Reply:
        return self.run(self.call("GET", target))

    def predict(self, body: bytes, query: str = "", kind: str = "image/png") -> Reply:
        return self.run(self.call("POST", f"/predict{query}", body, {"content-type": kind}))

    async def call(self, method: str, target: str, body: bytes = b"", headers=None, receive=None) -> Reply:
        """One request; `receive` may simulate a client that sends its body slowly, or hangs up."""
        parts = urlsplit(target)
        given = {"content-length": str(len(body))} | (headers or {})
        sent: list[dict] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def whole():
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        try:
            await self.app(scope, receive or whole, send)
        except Exception:
            if not sent:  # starlette sends 500 and raises the error again, for the log
                raise
        if not sent:
            return Reply(0, {}, b"")  # the client had hung up
        replied = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], replied, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def here():
    """Make an application around a stand-in model: here(), with limits of its own."""
    with asyncio.Runner() as runner:
        running = []

        def make(**changes) -> Here:
            limits = Limits(**changes)
            running.append(Scorer(ByColour(), limits))
            return Here(runner, running[-1].__enter__(), limits)

        yield make
        for scorer in running:
            scorer.model.open.set()
            scorer.__exit__()
