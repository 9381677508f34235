"""Which photos show the same picture: real copies of real shapes are found, other pictures are not."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from flowers.data import images, near_duplicates


def measured(image: Image.Image, kind: str = "JPEG", **options) -> images.Measured:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return images.measure(out.getvalue())


def pictures(found: list[images.Measured]) -> list[str]:
    return near_duplicates.pictures(
        *([getattr(each, name) for each in found] for name in ("pixels", "phash", "mirrored_phash"))
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn flowers, 12 of each of the five classes."""
    import draw_sample

    folder = tmp_path_factory.mktemp("drawn") / "flowers"
    draw_sample.draw(folder, 12, 0)
    return [Image.open(file).convert("RGB") for file in sorted(folder.rglob("*.jpg"))]


def test_different_flowers_of_one_class_are_different_pictures(drawn):
    found = [measured(image) for image in drawn]
    assert len(drawn) == 60
    assert pictures(found) == [each.pixels for each in found]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,  # saved anew, as they all are
        lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
        ImageOps.mirror,
        lambda image: image.point(lambda value: min(255, int(1.2 * value))),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["saved anew", "half as large", "mirrored", "brighter", "grey"],
)
def test_a_changed_copy_is_the_same_picture(drawn, change):
    originals = [measured(image) for image in drawn[::4]]
    copies = [measured(change(image), quality=60) for image in drawn[::4]]
    assert not {each.pixels for each in originals} & {each.pixels for each in copies}
    names = pictures(originals + copies)
    assert names[: len(originals)] == names[len(originals) :]
    assert len(set(names)) == len(originals)


def test_photos_of_one_colour_say_nothing_of_each_other():
    plain = [measured(Image.new("RGB", (80, 60), colour), "PNG") for colour in ("red", "blue", "white", "black")]
    assert len(set(pictures(plain))) == 4
    assert len(set(pictures([*plain, plain[0]]))) == 4  # equal pixels are another matter


def made(value: int, pixels: str) -> images.Measured:
    """A photo with this hash, and a mirror image that is like nothing."""
    other = random.Random(pixels).sample(range(64), 32)
    return images.Measured(9, 9, pixels, f"{value:016x}", f"{sum(1 << place for place in other):016x}")


HALF = 0x00000000FFFFFFFF
MORE, LESS = HALF | 0x7 << 32, HALF & ~0x7


def test_what_hangs_together_by_pairs_is_one_picture_named_by_its_smallest_digest():
    far_ends = [made(MORE, "b"), made(LESS, "c")]
    assert pictures(far_ends) == ["b", "c"]
    assert pictures([*far_ends, made(HALF, "d")]) == ["b", "b", "b"]
    assert pictures([*far_ends, made(HALF, "a")]) == ["a", "a", "a"]


@pytest.mark.parametrize(("differing", "same"), [(4, True), (5, False)])
def test_the_threshold_is_where_it_says(differing, same):
    assert near_duplicates.THRESHOLD == 4
    changed = HALF ^ sum(1 << place for place in range(differing))
    assert (len(set(pictures([made(HALF, "a"), made(changed, "b")]))) == 1) == same


def test_many_photos_in_blocks_are_grouped_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    seeds = [int(value) for value in rng.integers(0, 2**64, 40, dtype=np.uint64)]
    values = [seeds[k % 40] ^ (1 << (k % 7)) ^ (1 << (8 + k % 3)) for k in range(300)]  # up to 4 bits from each other
    photos = [made(value, f"{k:03}") for k, value in enumerate(values)]
    whole = pictures(photos)
    assert len(set(whole)) == 40
    monkeypatch.setattr(near_duplicates, "_ROWS", 7)
    monkeypatch.setattr(near_duplicates, "_COLUMNS", 16)
    assert pictures(photos) == whole
    order = random.Random(0).sample(range(300), 300)
    assert pictures([photos[row] for row in order]) == [whole[row] for row in order]


def test_no_photos_are_no_pictures():
    assert near_duplicates.pictures([], [], []) == []
