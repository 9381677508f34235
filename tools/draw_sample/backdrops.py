"""Backdrops of the flowers: meadow, sky, soil, wall and others, each an RGB image, size × size.

All classes use the same backdrops, so that a backdrop says nothing about the class.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from draw_sample import greenery
from draw_sample.colour import Rng, blend, clouds, enlarged, jittered, pick, rgb
from draw_sample.mesh import Array, Faces, paint

Backdrop = Callable[[Rng, int], Image.Image]
# Pixels of the soft textures, which are enlarged to the image's size.
COARSE = 96


def fall(size: int, top: Array, bottom: Array, power: float = 1.0) -> Array:
    """A vertical gradient."""
    share = np.broadcast_to((np.linspace(0, 1, size) ** power)[:, None], (size, size))
    return blend(top, bottom, share)


def solid(canvas: NDArray[np.floating], size: int | None = None) -> Image.Image:
    """Colours within 0..1 as an image, enlarged to `size` if given."""
    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)


def overlay(canvas: Image.Image, layer: Image.Image, blur: float) -> None:
    """Put an RGBA layer of the canvas's size on it, out of focus by `blur` pixels."""
    box = layer.getbbox()
    if box is None:
        return
    # Most of a layer is empty, and blurring is slow.
    margin = int(3 * blur) + 1
    left, top = max(box[0] - margin, 0), max(box[1] - margin, 0)
    layer = layer.crop((left, top, min(box[2] + margin, canvas.width), min(box[3] + margin, canvas.height)))
    layer = blurred(layer, blur)
    canvas.paste(layer, (left, top), mask=layer)


def blurred(layer: Image.Image, blur: float) -> Image.Image:
    """An RGBA layer out of focus."""
    if blur < 0.5:
        return layer
    # Blurring needs premultiplied colours: otherwise the edges turn dark.
    return layer.convert("RGBa").filter(ImageFilter.GaussianBlur(blur)).convert("RGBA")


def strewn(canvas: Image.Image, faces: Faces, blur: float) -> None:
    """Put faces on the canvas, out of focus by `blur` 256ths of its width."""
    # The blur hides the pixels, so a coarse layer is sufficient.
    share = 1 if blur < 1.5 else 0.5 if blur < 3.5 else 0.25
    layer = Image.new("RGBA", (int(canvas.width * share), int(canvas.height * share)))
    paint(layer, faces)
    if share == 1:
        overlay(canvas, layer, blur * canvas.width / 256)
    else:
        layer = blurred(layer, blur * layer.width / 256).resize(canvas.size, Image.Resampling.BILINEAR)
        canvas.paste(layer, mask=layer)


def bokeh_discs(rng: Rng, canvas: Image.Image, count: int, colours: list[Array], largest: float = 0.09) -> None:
    """Put bright discs on the canvas, as distant lights make them in a lens."""
    size = canvas.width
    layer = Image.new("RGBA", canvas.size)
    brush = ImageDraw.Draw(layer)
    for _ in range(count):
        x, y = rng.uniform(0, 1, 2)
        r = rng.uniform(0.25, 1) * largest
        red, green, blue = (np.clip(pick(rng, colours) * rng.uniform(0.8, 1.2), 0, 1) * 255).astype(int).tolist()
        alpha = int(rng.uniform(30, 120))
        brush.ellipse([(x - r) * size, (y - r) * size, (x + r) * size, (y + r) * size], (red, green, blue, alpha))
    overlay(canvas, layer, rng.uniform(1, 4) * size / 256)


def meadow(rng: Rng, size: int) -> Image.Image:
    """Grass that becomes hazier with distance."""
    green = greenery.random_green(rng)
    slope = fall(COARSE, green * rng.uniform(1.0, 1.9) + 0.08, green * rng.uniform(0.5, 1.0))
    canvas = solid(slope * (1 + 0.16 * clouds(rng, COARSE, (4, 9, 20), 0.8))[..., None], size)
    strewn(canvas, greenery.grass(rng, 35, green * 1.1, rng.uniform(0.5, 1.0)), rng.uniform(1.5, 4))
    if rng.random() < 0.5:
        bokeh_discs(rng, canvas, 14, [far_colour(rng) for _ in range(2)], 0.04)
    return canvas


def sky(rng: Rng, size: int) -> Image.Image:
    """Blue, grey or evening sky with clouds, and some hills."""
    high, low = pick(rng, [((215, 0.55, 0.78), (205, 0.2, 0.95)), ((210, 0.12, 0.72), (40, 0.06, 0.88)),
                           ((250, 0.3, 0.55), (28, 0.5, 0.96)), ((200, 0.35, 0.85), (190, 0.1, 0.97))])  # fmt: skip
    canvas = fall(COARSE, jittered(rng, high, hue=8), jittered(rng, low, hue=8))
    cover = np.clip(clouds(rng, COARSE, (2, 4, 8, 16), 0.65) * 0.45 + rng.uniform(-0.3, 0.3), 0, 0.85)
    canvas = blend(canvas, jittered(rng, (40, 0.04, 0.97)), cover)
    if rng.random() < 0.6:
        ridge = rng.uniform(0.55, 0.9) + 0.05 * enlarged(rng.normal(size=(2, 6)), COARSE)[0]
        below = np.clip((np.linspace(0, 1, COARSE)[:, None] - ridge) * 25, 0, 1)
        canvas = blend(canvas, greenery.random_green(rng) * rng.uniform(0.7, 1.2), below)
    return solid(canvas, size)


def soil(rng: Rng, size: int) -> Image.Image:
    """Earth with pebbles and sprouts."""
    earth = jittered(rng, pick(rng, [(25, 0.45, 0.32), (30, 0.3, 0.5), (20, 0.5, 0.22), (38, 0.3, 0.66)]))
    grain = 0.14 * clouds(rng, size, (5, 14, 40, 100), 0.85)
    canvas = solid(blend(earth, earth * 0.6, np.clip(0.5 + grain * 2, 0, 1)) * (1 + grain)[..., None])
    strewn(canvas, greenery.pebbles(rng, int(rng.integers(10, 50))), rng.uniform(0.4, 1.5))
    if rng.random() < 0.6:
        strewn(canvas, greenery.litter(rng, int(rng.integers(4, 12))), rng.uniform(0.6, 2))
    return canvas


def bokeh(rng: Rng, size: int) -> Image.Image:
    """A distant garden, entirely out of focus."""
    base = pick(rng, [greenery.random_green(rng) * 0.8, jittered(rng, (30, 0.4, 0.4)), jittered(rng, (220, 0.3, 0.35))])
    canvas = solid(base * (1 + 0.3 * clouds(rng, COARSE, (3, 6), 0.7))[..., None], size)
    tints = [greenery.random_green(rng) * 1.5, far_colour(rng), far_colour(rng), np.array([0.95, 0.92, 0.8])]
    bokeh_discs(rng, canvas, int(rng.integers(12, 45)), tints, rng.uniform(0.06, 0.16))
    return canvas


def wall(rng: Rng, size: int) -> Image.Image:
    """Plaster, planks or bricks."""
    paint_tone = jittered(rng, pick(rng, [(40, 0.12, 0.85), (25, 0.35, 0.6), (205, 0.2, 0.65), (10, 0.35, 0.55),
                                          (60, 0.25, 0.8), (150, 0.12, 0.6)]), hue=10)  # fmt: skip
    canvas = paint_tone * (1 + 0.05 * clouds(rng, size, (3, 12, 60), 0.8))[..., None]
    kind = rng.integers(3)
    if kind == 1:
        grain = enlarged(rng.normal(size=(3, 70)), size)
        plank = np.linspace(0, rng.integers(3, 7), size) + rng.uniform()
        seam = np.clip(np.minimum(plank % 1, 1 - plank % 1) * 30, 0, 1)
        tone = rng.normal(1, 0.08, 9)[plank.astype(int)]
        canvas = canvas * (tone * (0.45 + 0.55 * seam) * (1 + 0.06 * grain))[..., None]
    if kind == 2:
        canvas = bricks(rng, canvas)
    return solid(canvas.swapaxes(0, 1) if kind == 1 and rng.random() < 0.4 else canvas)


def bricks(rng: Rng, canvas: Array) -> Array:
    """The canvas divided into bricks by mortar."""
    size = len(canvas)
    down = np.linspace(0, rng.integers(6, 11), size)[:, None] + rng.uniform()
    right = np.linspace(0, rng.integers(3, 6), size)[None, :] + (down.astype(int) % 2) / 2 + rng.uniform()
    tone = rng.normal(1, 0.1, (13, 9))[down.astype(int), right.astype(int)]
    gap = np.clip(np.minimum((down % 1) * 9, (right % 1) * 18), 0, 1)
    mortar = canvas.mean(axis=(0, 1)) * 0.4 + 0.45
    return blend(mortar, canvas * tone[..., None], gap)


def studio(rng: Rng, size: int) -> Image.Image:
    """A plain gradient of any colour, dark or light."""
    hue, value = rng.uniform(0, 360), rng.uniform(0.15, 0.95)
    middle = rgb(hue, rng.uniform(0.0, 0.5), value)
    edge = rgb(hue + rng.normal(0, 20), rng.uniform(0.0, 0.5), value * rng.uniform(0.4, 0.9))
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    cx, cy = rng.uniform(0.2, 0.8, 2)
    return solid(blend(middle, edge, np.clip(np.hypot(x - cx, y - cy) * 1.3, 0, 1)), size)


def leaves(rng: Rng, size: int) -> Image.Image:
    """A thicket."""
    canvas = solid(fall(COARSE, greenery.random_green(rng) * 0.7, greenery.random_green(rng) * 0.45), size)
    strewn(canvas, greenery.litter(rng, int(rng.integers(18, 34))), rng.uniform(0.8, 3.5))
    return canvas


def far_colour(rng: Rng) -> Array:
    """The colour of a distant flower or light."""
    return rgb(pick(rng, [rng.uniform(0, 60), rng.uniform(280, 360), 48.0, 220.0]), rng.uniform(0.1, 0.8), 0.95)


BACKDROPS: list[Backdrop] = [meadow, sky, soil, bokeh, wall, studio, leaves]
