"""What a request may cost, and the answer to one that would cost more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")

_SHOWN = 300  # characters of a message: it may quote what the client sent


@dataclass(frozen=True)
class Limits:
    """What is taken from clients, one by one and together."""

    body: int = 16_000_000  # bytes of a request
    photos: int = 64  # in a request
    pixels: int = 52_000_000  # of a photo: as many as phones take; a PNG of that size takes 0.8 GB while it is decoded
    seconds: float = 30.0  # to send a request in
    waiting: int = 256  # photos taken on and not answered yet, of all requests
    held: int = 256_000_000  # bytes of the bodies of all requests
    retry: int = 5  # seconds after which a client that was put off may come again


class Refused(Exception):
    """A request that gets no answer but `{"error": message}`."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.headers = status, headers
        self.message = " ".join(message.split())[:_SHOWN]
        super().__init__(self.message)


class Gone(Exception):
    """The client has hung up."""


def require_photo(request: Request) -> None:
    """Raise Refused unless the request says that its body is a photo."""
    kind = media_type(request)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        line = "send the photo as it is: curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' "
        raise Refused(415, f"{line}.../{request.url.path.lstrip('/')}")


def media_type(request: Request) -> str:
    """What the request says of its body's type, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled once the client hangs up: Gone is raised. The body has been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Bodies:
    """Reads what clients send, and counts what is held of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, for as long as it is needed.

        Raises Refused where it is empty, too large or too slow, or too much is held already, and starlette's
        ClientDisconnect where the client hangs up.
        """
        body = bytearray()  # not a list of pieces: a client may send single bytes, and each piece has its price
        try:
            await self._receive(request, body)
            size = len(body)
        except BaseException:
            self._held -= len(body)
            raise
        try:
            whole = bytes(body)
            body.clear()
            yield whole
        finally:
            self._held -= size

    async def _receive(self, request: Request, body: bytearray) -> None:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():  # else it comes in pieces
            self._judge(int(announced), 0)
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for piece in request.stream():
                    self._judge(len(body) + len(piece), len(piece))
                    self._held += len(piece)
                    body += piece
        except TimeoutError:
            late = f"the request took more than {self._limits.seconds:g} s to arrive"
            raise Refused(408, late, {"Connection": "close"}) from None
        if not body:
            raise Refused(400, "an empty body; send a photo")

    def _judge(self, length: int, more: int) -> None:
        if length > self._limits.body:
            raise Refused(413, f"more than {self._limits.body / 1e6:g} MB in a request; send less at once")
        if self._held + more > self._limits.held:
            raise busy(self._limits)


def busy(limits: Limits) -> Refused:
    """What a client is told while too much waits."""
    return Refused(503, f"too much to do; try again in {limits.retry} s", {"Retry-After": str(limits.retry)})
