"""Thousands of damaged images: each gets 200 or a 400 that a client can read, and nothing leaks."""

import asyncio
import gc
import io
import random
import threading

import numpy as np
import psutil
import pytest
from PIL import Image

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGBA", "P", "I;16"), "WEBP": ("RGBA",), "GIF": ("P",), "TIFF": ("RGB",)}
EACH = 2400
TOGETHER = 16


def originals() -> list[bytes]:
    """Small images of every format, with the options of the formats."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)
    made = []
    for kind in KINDS:
        for mode in MODES.get(kind, ("RGB",)):
            stream = io.BytesIO()
            image = Image.fromarray(pixels)
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
            several = {"save_all": True, "append_images": [image, image]} if kind in ("GIF", "TIFF", "WEBP") else {}
            options = {"compression": "tiff_lzw"} if kind == "TIFF" else {"progressive": True} if mode == "L" else {}
            image.save(stream, kind, **several, **options)
            made.append(stream.getvalue())
    return made


def mutated(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The image with flipped bits, cut, with its own bytes elsewhere, extreme numbers, or the header of another."""
    body = bytearray(content)
    early = chance.choice((len(body), min(len(body), 64)))  # headers are small, and most can go wrong there
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(early)
        match chance.randrange(6):
            case 0:
                body[place % len(body)] ^= 1 << chance.randrange(8)
            case 1:
                del body[max(place, 1) :]
            case 2:
                source = chance.randrange(len(body))
                body[place:place] = body[source : source + chance.randrange(1, 40)]
            case 3:
                size = chance.choice((1, 2, 4))
                body[place : place + size] = chance.choice((b"\xff", b"\x00", b"\x7f")) * size
            case 4:
                other = chance.choice(others)
                body = (
                    bytearray(other[:place]) + body[place:] if chance.random() < 0.5 else body[:place] + other[place:]
                )
            case 5:
                del body[place : place + chance.randrange(1, 20)]
        early = max(1, min(early, len(body)))
        if not body:
            break
    return bytes(body)


def named_threads() -> set[str]:
    """The names of the threads that live on: a worker of AnyIO ends when it has nothing to do."""
    return {thread.name for thread in threading.enumerate()} - {"AnyIO worker thread"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what the mutations did
def test_every_damaged_image_gets_a_response_and_nothing_leaks(here):
    server = here()
    chance = random.Random(0)
    intact = originals()
    for content in intact:
        assert server.predict(content).status == 200

    async def several(number: int) -> list:
        bodies = [mutated(chance.choice(intact), intact, chance) for _ in range(number)]
        calls = [server.call("POST", "/predict", body, {"content-type": "image/jpeg"}) for body in bodies]
        return await asyncio.gather(*calls)

    process, replies = psutil.Process(), []
    for begun in range(0, EACH, TOGETHER):
        if begun == EACH // 6:
            gc.collect()
            threads, memory = named_threads(), process.memory_info().rss
        replies += server.run(several(TOGETHER))
    for reply in replies:
        assert reply.status in (200, 400)
        if reply.status == 400:
            assert "/" not in reply.error and ".py" not in reply.error
    readable = sum(reply.status == 200 for reply in replies)
    assert EACH / 20 < readable < EACH * 19 / 20  # else the mutations prove little
    gc.collect()
    assert threads <= named_threads()
    assert process.memory_info().rss - memory < 60e6
    assert server.predict(intact[0]).status == 200 and server.get("/health").status == 200
