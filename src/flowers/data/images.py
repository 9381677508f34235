"""Image files to pixels: decode, orient, measure, crop and resize. The only module that touches pixels.

Training, evaluation and serving all call `load`, so they see the same pixels: a function of the bytes and the view.
"""

import hashlib
import io
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from flowers.config.architecture import INPUT_SIZE
from flowers.data import formats

if formats.HEIF_READER:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)

_QUALITY = 82  # of JPEG: 10 kB a thumbnail
MAX_PIXELS = 100_000_000  # above this a file is rejected by the size in its header, before anything is decoded

# Tags of a TIFF's first image that tell a camera's raw file: the version of DNG; "a reduced version of another image".
_DNG_VERSION, _SUBFILE, _REDUCED = 50706, 254, 1

_CROP_ATTEMPTS = 10
_CROP_RATIOS = (3 / 4, 4 / 3)
_BAND = 256  # rows at a time, so that a large image is not copied whole

# Pillow warns about invalid EXIF and large sizes; warning filters are global, so one thread at a time may change them.
_quiet = threading.Lock()

Box = tuple[float, float, float, float]  # left, top, right, bottom


class UnreadableImage(Exception):
    """A file that cannot be read as an image: the text is the reason in a few words."""


@dataclass(frozen=True)
class View:
    """A view of an image: a crop box, whether it is mirrored, and the side in pixels.

    `box` is in fractions of the upright image, rounded to 6 decimals; None is the plain view, the whole image resized
    so that its short side fits and cropped to its centre.
    """

    box: Box | None = None
    flip: bool = False
    size: int = INPUT_SIZE

    @property
    def key(self) -> str:
        """A short stable name: 'plain', '0.100000,0.200000,0.900000,0.800000,flip', or 'plain,288px'."""
        parts = ["plain"] if self.box is None else [f"{edge:.6f}" for edge in self.box]
        parts += ["flip"] if self.flip else []
        return ",".join([*parts, f"{self.size}px"] if self.size != INPUT_SIZE else parts)


PLAIN = View()


@dataclass(frozen=True)
class Measured:
    """The upright size of an image; `pixels`, the SHA-256 (hex) of that size and its RGB bytes; and perceptual hashes.

    `phash` and `mirrored_phash` are of the image and of its mirror image, 16 hex digits; similar images differ in few
    bits (near_duplicates.THRESHOLD).
    """

    width: int
    height: int
    pixels: str
    phash: str
    mirrored_phash: str


def load(source: Path | bytes, view: View = PLAIN, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image and return one view of it: uint8, (view.size, view.size, 3), RGB.

    EXIF orientation is applied and transparency is composed on white. The view is cropped and resized in one step,
    bicubic with antialiasing. Raises UnreadableImage, also for more pixels than `max_pixels`, before it decodes any.
    """
    image = _open(source, max_pixels)
    _draft(image, view)
    upright = _upright(image)
    box = _pixel_box(view, *upright.size)
    resized = upright.resize((view.size, view.size), Image.Resampling.BICUBIC, box=box)
    return np.array(ImageOps.mirror(resized) if view.flip else resized)


def decoded_pixels(source: Path | bytes, view: View = PLAIN, max_pixels: int = MAX_PIXELS) -> int:
    """How many pixels `load` holds while it decodes, by the header alone. Raises UnreadableImage as `load`.

    A progressive JPEG counts whole: its coefficients are all in memory even if it is decoded at a fraction.
    """
    image = _open(source, max_pixels)
    if not image.info.get("progressive"):
        _draft(image, view)
    return image.width * image.height


def read(file: Path) -> bytes:
    """The bytes of a file; raises UnreadableImage if there is no regular file that can be read."""
    try:
        if file.exists() and not file.is_file():  # reading a pipe or a device might never end
            raise UnreadableImage("not a regular file")
        return file.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror or error}") from None


def jpeg(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 RGB (height, width, 3), as a JPEG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def measure(source: Path | bytes) -> Measured:
    """Decode an image completely, so that damage anywhere is found; raises UnreadableImage with the reason."""
    import imagehash

    image = _upright(_open(source))
    width, height = image.size
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    for box in _bands(image):
        digest.update(image.crop(box).tobytes())
    # First reduced to about twice the size by averages of whole pixels: imagehash's own resize takes longer.
    small = image.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0).convert("L")
    hashes = [str(imagehash.phash(one)) for one in (small, ImageOps.mirror(small))]
    return Measured(width, height, digest.hexdigest(), *hashes)


def random_views(
    image_sha256: str, width: int, height: int, count: int, seed: int, min_area: float, flip: bool
) -> list[View]:
    """Random resized crops of an image of `width` x `height` pixels, as in the training of Inception.

    A crop's share of the area is uniform in [min_area, 1] and its aspect ratio log-uniform in [3/4, 4/3] (Szegedy et
    al., "Going deeper with convolutions", arXiv 1409.4842, section 6). With `flip`, half of the views are mirrored.
    Each view is drawn from (seed, image, index) alone, so the first k views do not depend on `count`.
    """
    views = []
    for index in range(count):
        digest = hashlib.sha256(f"{seed}:{image_sha256}:{index}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest))
        mirrored = bool(random.random() < 0.5) and flip  # drawn first, so that the box is the same without flips
        views.append(View(_random_box(random, width, height, min_area), mirrored))
    return views


def _random_box(random: np.random.Generator, width: int, height: int, min_area: float) -> Box:
    low, high = np.log(_CROP_RATIOS)
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * random.uniform(min_area, 1)
        ratio = math.exp(random.uniform(low, high))
        crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if crop_width <= width and crop_height <= height:
            left = random.uniform(0, width - crop_width)
            top = random.uniform(0, height - crop_height)
            break
    else:  # too long for a crop of the wanted area: the largest centred one of an allowed aspect ratio
        ratio = min(max(width / height, _CROP_RATIOS[0]), _CROP_RATIOS[1])
        crop_width, crop_height = min(width, height * ratio), min(height, width / ratio)
        left, top = (width - crop_width) / 2, (height - crop_height) / 2
    edges = (left / width, top / height, (left + crop_width) / width, (top + crop_height) / height)
    x0, y0, x1, y1 = (round(min(max(edge, 0.0), 1.0), 6) for edge in edges)
    return x0, y0, x1, y1


def _pixel_box(view: View, width: int, height: int) -> Box:
    """The part of an upright image that a view shows, in pixels (left, top, right, bottom)."""
    if view.box is not None:
        left, top, right, bottom = view.box
        return left * width, top * height, right * width, bottom * height
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _open(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header only: format and size, nothing decoded."""
    too_many = f"more than {max_pixels // 1_000_000} megapixels"
    content = source if isinstance(source, bytes) else read(source)
    if not content:
        raise UnreadableImage("empty file")
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=formats.FORMATS)
    except UnidentifiedImageError:
        raise UnreadableImage(formats.refusal(content)) from None
    except Image.DecompressionBombError:
        raise UnreadableImage(too_many) from None
    except Exception as error:  # each decoder raises errors of its own for a damaged header
        raise UnreadableImage(_reason(error)) from None
    if isinstance(image, TiffImageFile) and (_DNG_VERSION in image.tag_v2 or image.tag_v2.get(_SUBFILE) == _REDUCED):
        raise UnreadableImage(formats.unknown(formats.RAW))  # the first image is a thumbnail
    if image.width * image.height > max_pixels:
        raise UnreadableImage(f"{image.width} x {image.height} pixels: {too_many}")
    if min(image.size) < 1:
        raise UnreadableImage("no pixels")
    return image


def _draft(image: Image.Image, view: View) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8, as long as the view keeps twice the pixels that it needs.

    12 megapixels then load about ten times as fast, and pixels differ by less than one grey level on average.
    """
    left, top, right, bottom = view.box or (0.0, 0.0, 1.0, 1.0)
    # The box refers to the upright image. The orientation is not known yet, so the smaller share counts.
    share = min(right - left, bottom - top)
    smallest = min(image.size) * share
    if smallest >= 4 * view.size:
        factor = 2 * view.size / smallest
        image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))


def _upright(image: Image.Image) -> Image.Image:
    """Decode an opened image completely: upright, mode RGB. Raises UnreadableImage."""
    try:
        image.load()
        turn = _turn(image)  # after load: a PNG may keep its EXIF behind the pixels
        rgb = _rgb(image)
        if rgb is not image:
            image.close()  # frees its pixels
        return rgb if turn is None else rgb.transpose(turn)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("too large for the memory") from None
    except Exception as error:  # each decoder raises errors of its own for damaged data
        raise UnreadableImage(_reason(error)) from None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The transposition that turns the image upright, by its EXIF orientation (Pillow has already turned a TIFF)."""
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(0x0112)
    except Exception:  # damaged EXIF: the pixels are still good
        return None
    return {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: transparency composed on white, 16-bit grey scaled instead of clipped."""
    if image.mode.startswith("I"):  # Pillow's own conversion to 8 bits clips at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage("32-bit grey pixels have no fixed range")
        scaled = values.astype(np.uint32)
        scaled *= 255
        scaled += 32767
        scaled //= 65535
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no fixed range")
    if image.has_transparency_data:
        rgb = Image.new("RGB", image.size)
        for box in _bands(image):
            colours = image.crop(box).convert("RGBA")
            rgb.paste(Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB"), box)
        return rgb
    return image if image.mode == "RGB" else image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of some rows each, from top to bottom."""
    for top in range(0, image.height, _BAND):
        yield 0, top, image.width, min(top + _BAND, image.height)


def _reason(error: Exception) -> str:
    """The error of a decoder in a few words."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or "end of file" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    return f"damaged: {text[:100]}"
