"""Readable files give the right pixels, others an error with a reason, and views are the same every time."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from flowers.data import formats, images

ORIENTATIONS = {  # EXIF orientation: how the stored pixels are turned away from the upright image
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def blocks(width: int = 480, height: int = 320, side: int = 40) -> Image.Image:
    """Coloured squares, all different, so that any turn, shift or mirroring shows."""
    colours = np.random.default_rng(7).integers(30, 226, (height // side, width // side, 3), dtype=np.uint8)
    return Image.fromarray(colours.repeat(side, 0).repeat(side, 1))


def centre(image: Image.Image) -> np.ndarray:
    """The plain view by its definition: short side to 224, then the middle."""
    scale = 224 / min(image.size)
    whole = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    return np.asarray(whole.crop((left, top, left + 224, top + 224)))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    content = bytearray(encode(blocks(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def reason(content) -> str:
    """The reason why a file cannot be read, on which `measure` and `load` must agree."""
    with pytest.raises(images.UnreadableImage) as by_load:
        images.load(content)
    with pytest.raises(images.UnreadableImage) as by_measure:
        images.measure(content)
    assert str(by_load.value) == str(by_measure.value)
    return str(by_measure.value)


@pytest.mark.parametrize("size", [(672, 448), (448, 672), (112, 160)])
def test_the_plain_view_is_the_whole_image_resized_and_cropped_to_its_centre(size):
    image = blocks(*size, side=16)
    view = images.load(encode(image))
    assert (view.shape, view.dtype) == ((224, 224, 3), np.uint8)
    assert difference(view, centre(image)) < 0.1


def test_downscaling_averages_fine_detail_instead_of_sampling_it():
    checkerboard = (np.indices((896, 896)).sum(0) % 2 * 255).astype(np.uint8)
    view = images.load(encode(Image.fromarray(checkerboard)))
    assert view.min() > 110 and view.max() < 145


@pytest.mark.parametrize("kind", [*formats.FORMATS, "MPO"])
def test_every_format_is_read_with_its_colours(kind):
    image = blocks()
    assert difference(images.load(encode(image, kind)), centre(image)) < 3  # JPEG and WEBP lose a little


def test_every_format_is_read_in_a_process_that_has_read_nothing_before(tmp_path):
    for kind in ("TIFF", "WEBP", "PPM", "AVIF", "HEIF"):
        (tmp_path / kind).write_bytes(encode(blocks(), kind))
        code = f"from pathlib import Path; from flowers.data import images; print(images.measure(Path({kind!r})).width)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "480\n"


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [
        *(("JPEG", orientation) for orientation in ORIENTATIONS),
        ("PNG", 6),
        ("WEBP", 6),
        ("TIFF", 6),
        ("AVIF", 6),
        ("HEIF", 6),
    ],
)
def test_exif_orientation_is_applied(kind, orientation):
    upright, turn = blocks(), ORIENTATIONS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    # In bytes, because pillow-heif writes HEIC's own turn only then; the EXIF of HEIC is not binding.
    content = encode(upright if turn is None else upright.transpose(turn), kind, exif=exif.tobytes())
    assert difference(images.load(content), centre(upright)) < 4
    measured = images.measure(content)
    assert (measured.width, measured.height) == upright.size


def test_damaged_exif_is_ignored():
    for exif in (b"Exif\0\0garbage, not TIFF", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 30):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert images.measure(encode(blocks(), "JPEG", exif=exif)).width == 480


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind):
    image = blocks()
    # Pillow writes a CMYK JPEG as Adobe does: inverted, with Adobe's marker.
    content = encode(image.convert("CMYK"), kind)
    assert kind != "JPEG" or b"Adobe" in content
    assert difference(images.load(content), centre(image)) < 4


def test_palette_grey_and_one_bit_are_read():
    image = blocks()
    assert difference(images.load(encode(image.quantize())), centre(image)) < 1
    grey = image.convert("L")
    assert difference(images.load(encode(grey)), centre(grey.convert("RGB"))) < 1.5
    half = Image.new("1", (20, 20))
    half.paste(1, (10, 0, 20, 20))
    view = images.load(encode(half))
    assert view[:, :90].max() == 0 and view[:, 140:].min() == 255


def transparent(mode: str) -> bytes:
    """Left half opaque black, right half fully transparent black."""
    if mode == "P":
        image = Image.new("P", (20, 20), 0)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.paste(1, (10, 0, 20, 20))
        return encode(image, "PNG", transparency=1)
    if mode in ("L", "RGB"):
        image = Image.new("RGB", (20, 20), (0, 0, 0)).convert(mode)
        image.paste(9 if mode == "L" else (9, 9, 9), (10, 0, 20, 20))
        return encode(image, "PNG", transparency=9 if mode == "L" else (9, 9, 9))
    alpha = Image.new("L", (20, 20), 255)
    alpha.paste(0, (10, 0, 20, 20))
    image = Image.new(mode, (20, 20), 0)
    image.putalpha(alpha)
    return encode(image)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB"])
def test_transparency_is_composed_on_white(mode):
    view = images.load(transparent(mode))
    assert view[:, :90].max() == 0 and view[:, 140:].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind):
    ramp = np.linspace(0, 65535, 224, dtype=np.uint16)[None].repeat(224, 0)
    content = b"P5 224 224 65535\n" + ramp.astype(">u2").tobytes() if kind == "PPM" else encode(Image.fromarray(ramp))
    view = images.load(content)
    assert np.abs(view[100, :, 0].astype(int) - np.linspace(0, 255, 224)).max() <= 1
    assert (view[..., 0] == view[..., 2]).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind):
    first, second = blocks(), Image.new("RGB", (480, 320), "white")
    content = encode(first, kind, save_all=True, append_images=[second])
    with Image.open(io.BytesIO(content)) as animation:
        assert animation.n_frames == 2
    assert difference(images.load(content), centre(first)) < 6


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000)])
def test_an_image_one_pixel_wide_is_read(size):
    content = encode(Image.new("RGB", size, (9, 120, 201)))
    assert (images.load(content) == (9, 120, 201)).all()
    measured = images.measure(content)
    assert (measured.width, measured.height) == size


def test_the_extension_does_not_matter(tmp_path):
    file = tmp_path / "really a PNG.jpg"
    file.write_bytes(encode(blocks(), "PNG"))
    assert difference(images.load(file), centre(blocks())) < 1.5
    assert images.measure(file) == images.measure(encode(blocks(), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_a_truncated_file_is_an_error(kind):
    whole = encode(blocks(side=8), kind)
    assert images.measure(whole).width == 480
    for share in (0.3, 0.6, 0.97):
        assert reason(whole[: int(len(whole) * share)]).startswith(("truncated", "damaged"))


def test_a_file_that_is_no_image_is_an_error_with_the_reason(tmp_path):
    assert reason(b"") == "empty file"
    assert "not an image" in reason(b"Once upon a time there was a flower." * 20)
    assert "not an image" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "not an image" in reason(png_header(0, 5))
    assert "No such file" in reason(tmp_path / "missing.jpg")
    assert reason(tmp_path) == "not a regular file"
    assert "no fixed range" in reason(encode(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    assert "no fixed range" in reason(encode(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"))


@pytest.mark.parametrize("content", [jpeg_header(20000, 20000), png_header(10001, 10000)])
def test_a_decompression_bomb_is_rejected_by_its_header(content):
    assert "more than 100 megapixels" in reason(content)


def test_an_image_just_below_the_limit_gives_no_warning_of_a_bomb():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(png_header(10000, 9999)) == "truncated"  # Pillow itself would warn from 89 megapixels on


def test_the_digest_depends_on_the_pixels_and_not_on_the_format():
    image = blocks()
    same = {images.measure(encode(image, kind)).pixels for kind in ("PNG", "BMP", "TIFF", "PPM")}
    assert len(same) == 1
    touched = image.copy()
    touched.putpixel((479, 319), (0, 0, 0))
    flat = Image.new("RGB", (480, 320)), Image.new("RGB", (320, 480))
    others = {images.measure(encode(other)).pixels for other in (touched, *flat)}
    assert len(others | same) == 4


def flower(petals: int = 7, size: tuple[int, int] = (480, 320)) -> Image.Image:
    """A shape that every turn and mirroring changes."""
    x, y = np.meshgrid(np.linspace(-1.3, 1.7, size[0]), np.linspace(-1.0, 1.2, size[1]))
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    bright = 120 + 90 * np.cos(petals * angle + 2 * radius) * np.exp(-radius) + 30 * x - 12 * y
    return Image.fromarray(np.stack([bright, bright / 2, 200 - bright / 2], -1).clip(0, 255).astype(np.uint8))


def bits(one: str, other: str) -> int:
    """The number of bits in which two perceptual hashes differ."""
    assert len(one) == len(other) == 16
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("size", [(1400, 900), (90, 60)])
def test_a_copy_saved_again_or_resized_has_nearly_the_same_perceptual_hash(size):
    original = images.measure(encode(flower(size=size)))
    smaller = flower(size=size).resize((size[0] * 2 // 3, size[1] * 2 // 3), Image.Resampling.BICUBIC)
    for copy in (encode(flower(size=size), "JPEG", quality=60), encode(smaller, "JPEG")):
        copied = images.measure(copy)
        assert copied.pixels != original.pixels
        assert bits(copied.phash, original.phash) <= 4
    assert bits(images.measure(encode(flower(5, size))).phash, original.phash) > 10


def test_the_second_hash_is_that_of_the_mirror_image():
    original, mirrored = (images.measure(encode(each)) for each in (flower(), ImageOps.mirror(flower())))
    assert bits(original.phash, mirrored.mirrored_phash) <= 2  # a pixel more on one side of a box
    assert bits(original.mirrored_phash, mirrored.phash) <= 2
    assert bits(original.phash, mirrored.phash) > 10


def test_the_perceptual_hash_is_of_the_upright_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(flower().transpose(ORIENTATIONS[6]), "PNG", exif=exif)
    assert images.measure(turned) == images.measure(encode(flower()))


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (31, 129)])
def test_an_image_of_any_shape_has_a_perceptual_hash(size):
    measured = images.measure(encode(Image.new("RGB", size, "red")))
    assert len(measured.phash) == len(measured.mirrored_phash) == 16


def test_a_large_jpeg_decoded_at_a_fraction_looks_like_the_whole():
    noise = np.random.default_rng(0).normal(0, 25, (1920, 2400, 3))
    image = Image.fromarray((np.asarray(blocks(2400, 1920, 60)) + noise).clip(0, 255).astype(np.uint8))
    content = encode(image, "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as opened:
        whole = opened.convert("RGB")
    assert difference(images.load(content), centre(whole)) < 1
    part = whole.crop((600, 480, 2400, 1920)).resize((224, 224), Image.Resampling.BICUBIC)
    assert difference(images.load(content, images.View((0.25, 0.25, 1.0, 1.0))), np.asarray(part)) < 1


def test_a_view_shows_its_box_of_the_upright_image_and_mirrors_it():
    upright = blocks()
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    box = (0.25, 0.5, 0.75, 1.0)
    expected = np.asarray(upright.crop((120, 160, 360, 320)).resize((224, 224), Image.Resampling.BICUBIC))
    assert difference(images.load(content, images.View(box)), expected) < 1.5
    assert difference(images.load(content, images.View(box, flip=True)), expected[:, ::-1]) < 1.5
    plain = images.load(content)
    assert (images.load(content, images.View(flip=True)) == plain[:, ::-1]).all()


def test_a_view_may_have_more_pixels_or_fewer():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    content = io.BytesIO()
    image.save(content, "PNG")
    found = images.load(content.getvalue(), images.View(size=96))
    wanted = image.resize((96, 96), Image.Resampling.BICUBIC, box=(15, 0, 75, 60))
    np.testing.assert_array_equal(found, np.asarray(wanted))
    assert images.View(size=96).key == "plain,96px" and images.View(flip=True, size=320).key == "plain,flip,320px"


def test_view_keys_are_short_stable_and_different():
    view = images.View((0.1, 0.2, 0.9, 0.8), flip=True)
    assert view.key == "0.100000,0.200000,0.900000,0.800000,flip"
    assert images.PLAIN.key == "plain"
    assert len({images.PLAIN.key, images.View(flip=True).key, view.key, images.View(view.box).key}) == 4


def draw(**changes) -> list[images.View]:
    settings = {"image_sha256": "ab" * 32, "width": 500, "height": 400, "count": 200, "seed": 3, "min_area": 0.3}
    return images.random_views(**{"flip": True} | settings | changes)


def test_views_depend_on_seed_and_image_and_not_on_their_number():
    views = draw()
    assert views == draw() and views[:7] == draw(count=7)
    assert len(set(views)) == 200
    assert not set(views) & set(draw(seed=4))
    assert not set(views) & set(draw(image_sha256="cd" * 32))


def test_views_keep_to_the_area_the_aspect_ratio_and_the_image():
    boxes = np.array([view.box for view in draw()])
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (boxes == boxes.round(6)).all()
    width, height = (boxes[:, 2] - boxes[:, 0]) * 500, (boxes[:, 3] - boxes[:, 1]) * 400
    area, ratio = width * height / (500 * 400), width / height
    assert area.min() > 0.3 - 1e-5 and area.min() < 0.36 and area.max() > 0.85
    assert ratio.min() > 0.75 - 1e-4 and ratio.max() < 4 / 3 + 1e-4
    assert ratio.min() < 0.8 and ratio.max() > 1.25


def test_half_of_the_views_are_mirrored_and_the_boxes_are_the_same_without_flips():
    mirrored, straight = draw(), draw(flip=False)
    assert 70 < sum(view.flip for view in mirrored) < 130
    assert not any(view.flip for view in straight)
    assert [view.box for view in mirrored] == [view.box for view in straight]


@pytest.mark.parametrize("size", [(4000, 100), (1, 3000)])
def test_an_image_too_long_for_the_area_gives_its_widest_centre(size):
    width, height = size
    view = draw(width=width, height=height, count=1, min_area=1.0)[0]
    left, top, right, bottom = view.box
    assert left == pytest.approx(1 - right, abs=2e-6) and top == pytest.approx(1 - bottom, abs=2e-6)
    ratio = (right - left) * width / ((bottom - top) * height)
    assert 0.74 < ratio < 1.34
    assert images.load(encode(Image.new("RGB", size, "red")), view).shape == (224, 224, 3)


def test_threads_read_equal_pixels_and_leave_the_warning_filters_unchanged():
    contents = [encode(blocks(320 + 40 * n, 240, 40), "JPEG") for n in range(6)] * 10
    alone = [images.measure(content) for content in contents]
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.measure, contents)) == alone
    assert list(warnings.filters) == before
    assert threading.active_count() < 8
