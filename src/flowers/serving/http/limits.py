"""What the server accepts: pixels, bytes, seconds, connections and queued images."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException


@dataclass(frozen=True)
class Limits:
    """Limits for one request, and for all requests together."""

    pixels: int = 52_000_000  # of an image, the most that phones take; decoding one of that size needs up to 0.9 GB
    large: int = 13_000_000  # decoded pixels, above which images are decoded one at a time, and not beside each other
    body: int = 16_000_000  # bytes of a request
    seconds: float = 30.0  # for a body to arrive; the headers have at most twice that
    bodies: int = 256_000_000  # bytes of all requests in progress
    waiting: int = 256  # images that are not scored yet
    explanations: int = 8  # not computed yet
    connections: int = 500  # many systems allow a process 1024 descriptors
    shutdown: int = 10  # seconds for the requests in progress when the server is stopped


def busy() -> HTTPException:
    """The error for a client that must come back later."""
    return HTTPException(503, "the server is busy; try again in 5 s", {"Retry-After": "5"})
