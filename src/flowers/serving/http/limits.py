"""What the server accepts: pixels, bytes, seconds, connections and queued images."""

import io
from dataclasses import dataclass

from PIL import Image
from starlette.exceptions import HTTPException

from flowers.data import images


@dataclass(frozen=True)
class Limits:
    """Limits for one request, and for all requests together."""

    pixels: int = 52_000_000  # of an image, the most that phones take; decoding a PNG of that size needs 0.8 GB
    body: int = 16_000_000  # bytes of a request
    seconds: float = 30.0  # for a body to arrive; the headers have at most twice that
    bodies: int = 256_000_000  # bytes of all requests in progress
    waiting: int = 256  # images that are not scored yet
    explanations: int = 8  # not computed yet
    connections: int = 500  # many systems allow a process 1024 descriptors
    shutdown: int = 10  # seconds for the requests in progress when the server is stopped


def check_pixels(content: bytes, limits: Limits) -> None:
    """Raise UnreadableImage where the header of an encoded image announces too many pixels.

    Everything else that may be wrong with the image is left to its decoding.
    """
    try:
        with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
            width, height = image.size
    except Exception:
        return
    if width * height > limits.pixels:
        raise images.UnreadableImage(f"{width} x {height} pixels: more than {limits.pixels // 1_000_000} megapixels")


def busy() -> HTTPException:
    """The error for a client that must come back later."""
    return HTTPException(503, "the server is busy; try again in 5 s", {"Retry-After": "5"})
