"""Near-duplicates: copies of drawn flowers are found, and different flowers are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from flowers.data import images, near_duplicates


def measured(image: Image.Image, kind: str = "JPEG", **options) -> images.Measured:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return images.measure(out.getvalue())


def groups(found: list[images.Measured]) -> list[str]:
    return near_duplicates.groups(
        *([getattr(each, name) for each in found] for name in ("pixels", "phash", "mirrored_phash"))
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn flowers, 12 of each of the five classes."""
    import draw_sample

    folder = tmp_path_factory.mktemp("drawn") / "flowers"
    draw_sample.draw(folder, {"train": 12})
    return [Image.open(file).convert("RGB") for file in sorted(folder.rglob("*.jpg"))]


def test_different_flowers_of_one_class_are_no_near_duplicates(drawn):
    found = [measured(image) for image in drawn]
    assert len(drawn) == 60
    assert groups(found) == [each.pixels for each in found]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,  # saved again, as they all are
        lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
        ImageOps.mirror,
        lambda image: image.point(lambda value: min(255, int(1.2 * value))),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["saved again", "half as large", "mirrored", "brighter", "grey"],
)
def test_a_changed_copy_is_a_near_duplicate(drawn, change):
    originals = [measured(image) for image in drawn[::4]]
    copies = [measured(change(image), quality=60) for image in drawn[::4]]
    assert not {each.pixels for each in originals} & {each.pixels for each in copies}
    names = groups(originals + copies)
    assert names[: len(originals)] == names[len(originals) :]
    assert len(set(names)) == len(originals)


def test_images_of_one_colour_are_no_near_duplicates():
    plain = [measured(Image.new("RGB", (80, 60), colour), "PNG") for colour in ("red", "blue", "white", "black")]
    assert len(set(groups(plain))) == 4
    assert len(set(groups([*plain, plain[0]]))) == 4  # equal pixels are duplicates


def made(value: int, pixels: str) -> images.Measured:
    """An image with this hash, whose mirror image is similar to no other image."""
    seed = int.from_bytes(pixels.encode())
    other = np.random.default_rng(seed).permutation(64)[:32].tolist()
    return images.Measured(9, 9, pixels, f"{value:016x}", f"{sum(1 << place for place in other):016x}")


HALF = 0x00000000FFFFFFFF
MORE, LESS = HALF | 0x7 << 32, HALF & ~0x7


def test_images_connected_by_pairs_are_one_group_named_by_its_smallest_digest():
    far_ends = [made(MORE, "b"), made(LESS, "c")]
    assert groups(far_ends) == ["b", "c"]
    assert groups([*far_ends, made(HALF, "d")]) == ["b", "b", "b"]
    assert groups([*far_ends, made(HALF, "a")]) == ["a", "a", "a"]


@pytest.mark.parametrize(("differing", "same"), [(4, True), (5, False)])
def test_the_threshold_is_4_bits(differing, same):
    changed = HALF ^ sum(1 << place for place in range(differing))
    assert (len(set(groups([made(HALF, "a"), made(changed, "b")]))) == 1) == same


def test_groups_do_not_depend_on_the_blocks_of_the_computation(monkeypatch):
    rng = np.random.default_rng(0)
    seeds = [int(value) for value in rng.integers(0, 2**64, 40, dtype=np.uint64)]
    values = [seeds[k % 40] ^ (1 << (k % 7)) ^ (1 << (8 + k % 3)) for k in range(300)]  # up to 4 bits from each other
    found = [made(value, f"{k:03}") for k, value in enumerate(values)]
    whole = groups(found)
    assert len(set(whole)) == 40
    monkeypatch.setattr(near_duplicates, "_ROWS", 7)
    monkeypatch.setattr(near_duplicates, "_COLUMNS", 16)
    assert groups(found) == whole
    order = rng.permutation(300)
    assert groups([found[row] for row in order]) == [whole[row] for row in order]


def test_no_images_are_no_groups():
    assert near_duplicates.groups([], [], []) == []
