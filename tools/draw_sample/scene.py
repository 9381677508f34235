"""One image: a backdrop, flowers of one class with their stems and leaves, objects in front of them, and the light."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageFilter

from draw_sample import greenery
from draw_sample.backdrops import BACKDROPS, far_colour, overlay, solid, strewn
from draw_sample.colour import Rng, clouds, enlarged, pick
from draw_sample.cups import Rose, Tulip
from draw_sample.greenery import LeafKind
from draw_sample.heads import Daisy, Dandelion, Sunflower
from draw_sample.mesh import Array, Faces, Light, Pose, joined, paint, posed, surfaces
from draw_sample.petals import Rays, petal_colour, ray_points, round_tip


class Species(Protocol):
    """Flowers of one kind and colour."""

    @property
    def green(self) -> Array:
        """The colour of its stem and leaves."""

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower in its own frame, about 1 in radius; less detail for a small one."""


@dataclass(frozen=True)
class Habit:
    """How a class grows: its species, its usual leaf, how far it turns from the viewer, and its size and stem."""

    species: Callable[[Rng], Species]
    leaf: LeafKind
    tilt: tuple[float, float]
    scale: float
    stem: float


HABITS: dict[str, Habit] = {
    "daisy": Habit(Daisy.species, "spoon", (0.0, 1.35), 0.8, 0.05),
    "dandelion": Habit(Dandelion.species, "toothed", (0.0, 1.3), 0.74, 0.06),
    "roses": Habit(Rose.species, "ovate", (0.25, 1.6), 0.7, 0.06),
    "sunflowers": Habit(Sunflower.species, "heart", (0.0, 1.3), 0.84, 0.075),
    "tulips": Habit(Tulip.species, "blade", (0.3, 1.75), 0.68, 0.085),
}
LABELS = tuple(HABITS)
# Highlights of a photograph fade instead of clipping: levels up to HEADROOM times white are bent into the range.
HEADROOM = 1.4
TONES = [
    round(255 * (level if level < 0.7 else 0.7 + 0.3 * (1 - np.exp((0.7 - level) / 0.3))))
    for level in np.linspace(0, HEADROOM, 256)
]


def compose(label: str, rng: Rng, size: int) -> Image.Image:
    """An image of one or more flowers of the class, size × size, RGB."""
    habit = HABITS[label]
    species = habit.species(rng)
    light = random_light(rng)
    canvas = pick(rng, BACKDROPS)(rng, size)
    surround(rng, canvas, light)
    stand = poses(rng, habit)
    for pose in stand:
        far = 1 - pose.radius / stand[-1].radius
        blur = pick(rng, [0.3, 0.8, 2.0], [6, 3, 1]) + 3.0 * far * rng.random()
        plant(rng, canvas, habit, species, pose, light, blur)
    obstruct(rng, canvas)
    return developed(rng, canvas)


def random_light(rng: Rng) -> Light:
    """Light from above, from the left or the right, hard or soft."""
    direction = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.45, 0.9)])
    return Light(direction / np.linalg.norm(direction), float(rng.uniform(0.45, 0.72)))


def poses(rng: Rng, habit: Habit) -> list[Pose]:
    """Positions of the flowers, the smallest (farthest) first."""
    count = pick(rng, [1, 2, 3, 4, 6], [10, 5, 4, 2, 1])
    largest = rng.uniform(0.15, 0.42) if count == 1 else rng.uniform(0.12, 0.33) * (1 if count < 4 else 0.8)
    found: list[Pose] = []
    for _ in range(40):
        radius = largest * (1.0 if not found else rng.uniform(0.55, 1.0)) * habit.scale
        margin = radius * rng.uniform(0.5, 1.1)
        x, y = rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin * 1.1)
        tilt = float(rng.uniform(*habit.tilt))
        pose = Pose(x, y, radius, tilt, float(rng.normal(0, 0.35)), float(rng.uniform(0, 2 * np.pi)))
        if all(np.hypot(x - other.x, y - other.y) > 0.8 * (radius + other.radius) for other in found):
            found.append(pose)
        if len(found) == count:
            break
    return sorted(found, key=lambda pose: pose.radius)


def plant(rng: Rng, canvas: Image.Image, habit: Habit, species: Species, pose: Pose, light: Light, blur: float) -> None:
    """Put one flower with its stem, leaves and shadow on the canvas."""
    layer = Image.new("RGBA", (2 * canvas.width, 2 * canvas.height))
    paint(layer, stalk(rng, habit, species, pose))
    paint(layer, posed(species.bloom(rng, float(np.clip(pose.radius * 4, 0.5, 1.4))), pose, light))
    layer = layer.reduce(2)
    cast_shadow(rng, canvas, layer, light, pose.radius)
    overlay(canvas, layer, blur * canvas.width / 256)


def stalk(rng: Rng, habit: Habit, species: Species, pose: Pose) -> Faces:
    """Stem and leaves, in the image's coordinates."""
    axis = pose.axis
    root = (pose.x - axis[0] * pose.radius * 0.3, pose.y + axis[1] * pose.radius * 0.3)
    if habit.leaf == "blade":
        root = (pose.x - axis[0] * pose.radius * 0.8, pose.y + axis[1] * pose.radius * 0.8)
    foot = (pose.x - axis[0] * 0.3 + rng.normal(0, 0.08), 1.08)
    green = species.green * rng.uniform(0.85, 1.15)
    parts = [greenery.stem(root, (-axis[0], axis[1]), foot, pose.radius * habit.stem, green)]
    kind = habit.leaf if rng.random() < 0.75 else pick(rng, greenery.LEAF_KINDS)
    for _ in range(int(rng.integers(0, 5))):
        share = rng.uniform(0.35, 1.0)
        at = (root[0] + (foot[0] - root[0]) * share, root[1] + (foot[1] - root[1]) * share)
        up = np.pi / 2 + rng.choice([-1, 1]) * rng.uniform(0.2, 1.3)
        length = pose.radius * rng.uniform(0.7, 1.5) * (1.7 if kind == "blade" else 1.0)
        parts.append(greenery.leaf(rng, at, up, length, kind, green * rng.uniform(0.8, 1.2)))
    return joined(parts)


def cast_shadow(rng: Rng, canvas: Image.Image, layer: Image.Image, light: Light, radius: float) -> None:
    """Darken the canvas softly on the far side of the layer's light."""
    strength = rng.uniform(0.15, 0.5)
    coarse = layer.getchannel("A").reduce(4).point([int(level * strength) for level in range(256)])
    soft = coarse.filter(ImageFilter.GaussianBlur(radius * coarse.width / 10)).resize(canvas.size)
    away = (radius * 0.3 * canvas.width * np.array([-light.direction[0], light.direction[1]])).astype(int)
    canvas.paste((12, 12, 24), (int(away[0]), int(away[1])), mask=soft)


def surround(rng: Rng, canvas: Image.Image, light: Light) -> None:
    """Put distant flowers of no particular kind, leaves and grass behind the subject."""
    if rng.random() < 0.45:
        far = [far_flower(rng, light) for _ in range(int(rng.integers(2, 8)))]
        strewn(canvas, joined(far), rng.uniform(2, 5))
    if rng.random() < 0.4:
        strewn(canvas, greenery.litter(rng, int(rng.integers(2, 8))), rng.uniform(0.6, 2.5))
    if rng.random() < 0.35:
        blades = greenery.grass(rng, int(rng.integers(6, 22)), greenery.random_green(rng))
        strewn(canvas, blades, rng.uniform(0.5, 2))


def far_flower(rng: Rng, light: Light) -> Faces:
    """A small flower of no particular kind."""
    steps, count = (4, 3), int(rng.integers(5, 14))
    rays = Rays(np.arange(count) * 2 * np.pi / count, 0.8, rng.uniform(0.2, 0.4), rng.uniform(0, 0.9), -0.4)
    tint = far_colour(rng)
    colour = petal_colour(rng, tint * 0.8, tint, count, steps)
    x, y, radius, tilt, lean, spin = rng.uniform([0, 0, 0.03, 0, -0.5, 0], [1, 1, 0.1, 1.3, 0.5, 6])
    pose = Pose(x, y, radius, tilt, lean, spin)
    return posed(surfaces(ray_points(rays, round_tip, steps), colour), pose, light)


def obstruct(rng: Rng, canvas: Image.Image) -> None:
    """Put an insect, a few blades or a leaf close to the lens before the subject."""
    if rng.random() < 0.2:
        strewn(canvas, greenery.insect(rng, *rng.uniform(0.15, 0.85, 2)), 0.45)
    if rng.random() < 0.4:
        blades = greenery.grass(rng, int(rng.integers(2, 9)), greenery.random_green(rng), 0.8)
        strewn(canvas, blades, rng.uniform(0.5, 3))
    if rng.random() < 0.28:
        side = rng.choice([-0.1, 1.1])
        green = greenery.random_green(rng) * rng.uniform(0.6, 1.2)
        angle = np.pi * (side > 0.5) + rng.normal(0, 0.6)
        strewn(canvas, greenery.leaf(rng, (side, rng.uniform(0.3, 1)), angle, 0.6, "ovate", green), rng.uniform(4, 8))


def developed(rng: Rng, image: Image.Image) -> Image.Image:
    """The finished image: dappled light, falloff, colour cast, exposure and grain."""
    size = image.width
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    lean = rng.normal(0, 0.07, 2)
    exposure = (1 + lean[0] * x + lean[1] * y - rng.uniform(0, 0.15) * (x**2 + y**2)) * rng.uniform(0.85, 1.2)
    if rng.random() < 0.3:
        exposure *= 1 + 0.25 * np.tanh(clouds(rng, 64, (4, 9), 0.7) * 1.5)
    # Saturation and cast in one matrix, so that one pass over the image is enough.
    saturation = rng.uniform(0.85, 1.2)
    mix = (saturation * np.eye(3) + (1 - saturation) / 3) * rng.normal(1, [0.05, 0.02, 0.06]) / 255
    canvas = np.asarray(image, np.float32) @ mix.astype(np.float32)
    canvas *= enlarged(exposure, size)[..., None].astype(np.float32)
    canvas += rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.uniform(0.004, 0.011))
    canvas += np.float32(rng.uniform(0, 0.05))
    return solid(canvas * np.float32(1 / HEADROOM)).point(TONES * 3)
