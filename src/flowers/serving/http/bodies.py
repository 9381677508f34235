"""ASGI middleware for request bodies: their size, the time that they take, and clients that hang up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowers.serving.http import errors
from flowers.serving.http.limits import Limits, busy


class RequestBodies:
    """Reads bodies within the limits (else 413, 408, 503), and runs the application for as long as the client waits."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._held = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with self._body(scope, receive) as body:
                await self._run(scope, body, receive, send)
        except ClientDisconnect:
            return
        except HTTPException as error:
            await errors.response(error.status_code, error.detail, error.headers)(scope, receive, send)
        except asyncio.CancelledError:
            await errors.response(503, "the server is shutting down")(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal():
            self._check(int(announced), 0)
        body, size = bytearray(), 0  # not a list of pieces: a client may send single bytes
        try:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    async for piece in Request(scope, receive).stream():
                        self._check(size + len(piece), len(piece))
                        size += len(piece)
                        self._held += len(piece)
                        body += piece
            except TimeoutError:
                late = f"the request took more than {self._limits.seconds:g} s to arrive"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            content = bytes(body)
            body.clear()
            yield content
        finally:
            self._held -= size

    def _check(self, size: int, more: int) -> None:
        if size > self._limits.body:
            raise HTTPException(413, f"the request has more than {self._limits.body / 1e6:g} MB")
        if self._held + more > self._limits.bodies:
            raise busy()

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        working = asyncio.ensure_future(self._app(scope, replay, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
