"""Images through a model in batches: every item in its order, readable or not, and few in memory."""

import io
import threading
from itertools import count

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from flowers.data import images
from flowers.serving import stream


class Brightness(StandIn):
    """A stand-in model: how bright an image is, and how dark."""

    classes = ("bright", "dark")
    threshold = None
    size = 224

    def __init__(self) -> None:
        self.batches = []

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8 and images.shape[1:] == (224, 224, 3)
        self.batches.append(len(images))
        bright = images.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return np.stack([bright, 1 - bright], axis=1)


def encoded(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (30, 20), level).save(buffer, "PNG")
    return buffer.getvalue()


def levels(batch: stream.Batch) -> list[int]:
    return [round(255 * float(value)) for value in batch.predicted.probabilities[:, 0]]


def test_items_keep_their_order_and_come_in_full_batches():
    model = Brightness()
    found = list(stream.batches(model, range(70), encoded))
    assert [item for batch in found for item in batch.items] == list(range(70))
    assert [level for batch in found for level in levels(batch)] == list(range(70))
    assert [len(batch.items) for batch in found] == model.batches == [32, 32, 6]


def test_an_image_may_be_a_file(tmp_path):
    (tmp_path / "7.png").write_bytes(encoded(7))
    (batch,) = stream.batches(Brightness(), [7], lambda level: tmp_path / f"{level}.png")
    assert levels(batch) == [7]


def read(item: object) -> bytes:
    if isinstance(item, Exception):
        raise item
    return item if isinstance(item, bytes) else encoded(item)


def test_unreadable_images_have_an_error_and_the_others_are_predicted():
    items = [5, b"", b"not an image", 6, PermissionError(13, "Permission denied"), ValueError("why"), 7]
    items.append(images.UnreadableImage("a known reason"))
    model = Brightness()
    (batch,) = stream.batches(model, items, read)
    assert batch.items == items and model.batches == [3]
    found = [None, "empty file", batch.errors[2], None, "cannot be read: Permission denied", "why", None]
    assert batch.errors == [*found, "a known reason"]
    assert batch.errors[2].startswith("not an image")
    for row, error in enumerate(batch.errors):
        assert np.isnan(batch.predicted.probabilities[row]).all() == (error is not None)
        assert (batch.pixels[row] is None) == (error is not None)
    assert [batch.pixels[row].mean() for row in (0, 3, 6)] == [5, 6, 7]


def test_without_a_readable_image_the_model_is_not_run():
    model = Brightness()
    assert list(stream.batches(model, [], read)) == []
    (batch,) = stream.batches(model, [b"", b""], read)
    assert batch.errors == ["empty file"] * 2 and batch.predicted.probabilities.shape == (2, 2) and model.batches == []


def test_an_error_of_the_program_is_not_reported_as_an_unreadable_image():
    with pytest.raises(KeyError):
        list(stream.batches(Brightness(), [KeyError("a bug")], read))


def test_items_are_drawn_only_when_they_are_needed():
    drawn = []

    def items():
        for number in count():
            drawn.append(number)
            yield number % 256

    with_batches = stream.batches(Brightness(), items(), encoded)
    for number in range(1, 6):
        assert levels(next(with_batches))[0] == 32 * (number - 1) % 256
        assert len(drawn) <= 32 * number + 96
    with_batches.close()
    before = len(drawn)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert len(drawn) == before


def test_images_are_decoded_while_the_model_runs():
    """The model waits until three more batches are decoded; without decoding ahead it would time out."""
    decoded, later = set(), threading.Event()

    def read(item):
        decoded.add(item)
        if len(decoded) == 128:
            later.set()
        return encoded(item)

    class Waiting(Brightness):
        def probabilities(self, images):
            assert later.wait(20)
            return super().probabilities(images)

    assert sum(len(batch.items) for batch in stream.batches(Waiting(), range(200), read)) == 200
