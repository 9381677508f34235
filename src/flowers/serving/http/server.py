"""`flowers serve`: the application on a port, from the first photo to the last signal."""

import asyncio
import json
import logging
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import models
from flowers.serving.http import app
from flowers.serving.http.batching import Scorer
from flowers.serving.http.explaining import Explainer
from flowers.serving.http.limits import Limits, Refused

_HEADERS = 30  # seconds for a request's first lines to arrive
_CONNECTIONS = 500  # at a time
_ENDING = 10  # seconds for what is under way when the server is told to end

_log = logging.getLogger("flowers.http")


def serve(settings: models.Settings, reference: str | None, host: str, port: int, examples: Path | None) -> None:
    """Serve the model that `reference` names (see models.choose) until Ctrl-C or SIGTERM; see app.create.

    Raises UserError where the port is taken, or there is no such model or folder of examples.
    """
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit(0))
    if examples is not None and not examples.is_dir():
        raise UserError(f"{examples}: no such folder; build/images is there after `dvc repro`")
    with _bound(host, port) as door:
        chosen = models.choose(reference, settings)
        limits = Limits()
        with Scorer(chosen.model, limits) as scorer, Explainer(chosen.model, limits) as explainer:
            scorer.warm()  # before another thread asks: two that import TensorFlow at once break it
            warnings.filterwarnings("ignore", module="PIL")  # about damage: what matters of it, the client is told
            _listen(door, host, port)
            for end in (signal.SIGINT, signal.SIGTERM):  # uvicorn has its own, and raises the signal again at its end
                signal.signal(end, lambda *_: None)
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{door.getsockname()[1]}"
            console.say(f"{chosen.name} at {address}, a page for people; {address}/docs for programs (end: Ctrl-C)")
            _log_to_stderr()
            _server(Log(app.create(scorer, explainer, limits, examples))).run(sockets=[door])


def _server(application: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=_ENDING,
        )
    )


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the port, and nobody can connect to yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _taken(host, port, error) from None
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
    except OSError as error:
        door.close()
        raise _taken(host, port, error) from None
    return door


def _listen(door: socket.socket, host: str, port: int) -> None:
    try:
        door.listen(1024)
    except OSError as error:  # another server that was starting, too, was sooner
        raise _taken(host, port, error) from None


def _taken(host: str, port: int, error: OSError) -> UserError:
    return UserError(f"{host}:{port} cannot be served ({error.strerror}); try another --port")


class Log:
    """A line for each request: method, path, status, milliseconds. What the server's end cuts short is told so."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._application(scope, receive, noted)
        except asyncio.CancelledError:
            ending = app.failure(Refused(503, "the server ends"))
            await ending(scope, receive, noted)
        finally:
            path = scope["raw_path"].decode("ascii", "replace")[:100]  # as it was sent, so that it stays one line
            _log.info("%s %s %d %.0f ms", scope["method"], path, status, 1000 * (time.monotonic() - begun))


class _Protocol(H11Protocol):
    """uvicorn's, with an end to the patience for a request's first lines, and its one error in the form of all."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.server_state.connections) > _CONNECTIONS:
            transport.close()  # rather than run out of descriptors, of which many systems give a thousand
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the first lines have come
            if self._patience is not None:
                self._patience.cancel()
            self._patience = None
        elif self._patience is None:
            self._patience = self.loop.call_later(_HEADERS, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": "not a request of HTTP/1.1"}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (
            h11.Response(status_code=400, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    for name, level in (("flowers", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
