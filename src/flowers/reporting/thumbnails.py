"""Small pictures of photos for pages: what the network sees of them."""

import hashlib
import io

import numpy as np

from flowers import images, paths

_QUALITY = 82  # of JPEG: 10 kB a picture


def of(path: str, sha256: str) -> bytes | None:
    """A JPEG of a photo in build/images, 224 x 224; None unless the file there is a photo with this hash."""
    try:
        content = images.read(paths.IMAGES / path)
        return jpeg(images.load(content)) if hashlib.sha256(content).hexdigest() == sha256 else None
    except images.UnreadableImage:
        return None


def jpeg(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 RGB (height, width, 3), as a JPEG; equal pixels give equal bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
