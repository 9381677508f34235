"""`flowers serve`: the application on a port, until Ctrl-C or SIGTERM."""

import logging
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import models
from flowers.serving.http import app, memory
from flowers.serving.http.batching import Scorer
from flowers.serving.http.explaining import Explainer
from flowers.serving.http.limits import Limits


def serve(
    settings: models.Settings,
    reference: str | None,
    host: str,
    port: int,
    examples: Path | None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> None:
    """Serve the model that `reference` names (see models.choose) until Ctrl-C or SIGTERM. Raises UserError."""
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn finishes the requests first, then raises it again
        signal.signal(number, lambda *_: sys.exit(0))
    memory.configure()
    if examples is not None and not examples.is_dir():
        raise UserError(f"{examples}: no such folder; `dvc repro` writes build/images")
    with _listen(host, port) as listener:
        model, name = models.choose(reference, settings)
        with Scorer(model, limits) as scorer, Explainer(scorer, limits) as explainer:
            scorer.warm()  # before any other thread: two that import TensorFlow at the same time break it
            warnings.filterwarnings("ignore", module="PIL")  # the client gets the reason why an image is not readable
            logging.basicConfig(format="%(asctime)s %(message)s")
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            console.say(f"Serving {name}: web page {address}, API {address}/docs (end with Ctrl-C)")
            _server(app.create(scorer, explainer, limits, examples), limits).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Listen before the model is loaded: a port that is taken is an error at once. Clients wait for the model."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(f"{host}:{port} cannot be served ({error.strerror}); try another --port") from None


def _server(application: ASGIApp, limits: Limits) -> uvicorn.Server:
    idle: set[tuple[Any, Any]] = set()  # connections without a request in progress, and their last request

    async def close_idle() -> None:
        """Close connections without a new request since the last call, because uvicorn waits for headers forever."""
        nonlocal idle
        connections: set[Any] = set(server.server_state.connections)
        before, idle = idle, {(one, one.cycle) for one in connections if not one.cycle or one.cycle.response_complete}
        for connection, _ in before & idle:
            connection.transport.close()

    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=limits.shutdown,
            timeout_notify=int(limits.seconds),
            callback_notify=close_idle,
        )
    )
    return server
