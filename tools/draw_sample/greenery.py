"""Objects around the flowers: stems, leaves, grass, pebbles and insects.

All of them are flat, in coordinates of the image (fractions, y down), with their shading in the colours.
"""

from typing import Literal

import numpy as np

from draw_sample.colour import Rng, blend, jittered, pick
from draw_sample.mesh import Array, Faces, Point, bezier, joined, ribbon, ribbons

LeafKind = Literal["spoon", "toothed", "ovate", "heart", "blade"]
LEAF_KINDS: tuple[LeafKind, ...] = ("spoon", "toothed", "ovate", "heart", "blade")
# Half the width as a share of the length.
SLIMNESS: dict[LeafKind, float] = {"spoon": 0.16, "toothed": 0.15, "ovate": 0.26, "heart": 0.38, "blade": 0.085}
ROUND = np.array([0.72, 0.95, 1.12, 1.0, 0.8])


def random_green(rng: Rng) -> Array:
    """A leaf's colour: from blue-green over fresh green to dry."""
    return jittered(rng, pick(rng, [(100, 0.55, 0.42), (82, 0.55, 0.52), (125, 0.4, 0.36), (62, 0.5, 0.5)]), hue=8)


def stem(start: Point, away: Point, foot: Point, width: float, green: Array) -> Faces:
    """A stem that leaves the flower in a direction and bends to its foot."""
    reach = 0.45 * float(np.hypot(foot[0] - start[0], foot[1] - start[1]))
    bend = (start[0] + away[0] * reach, start[1] + away[1] * reach)
    upright = (foot[0], foot[1] - reach * 0.6)
    path = bezier([start, bend, upright, foot], 24)
    half = width * np.linspace(0.85, 1.15, len(path))
    return ribbon(path, half, green * ROUND[:, None])


def outline(kind: LeafKind, s: Array) -> Array:
    """Half the width of a leaf along its length, at most 1."""
    if kind == "spoon":
        return np.sin(np.pi * s**1.7) ** 0.9 * 0.9 + 0.1 * (1 - s)
    if kind == "toothed":
        saw = 1 - 0.75 * ((s * 6.0) % 1.0)
        return np.sin(np.pi * (0.06 + 0.94 * s**1.25)) * np.where(s < 0.85, saw, 1)
    if kind == "ovate":
        return np.sin(np.pi * s**0.75) * (1 - 0.08 * ((s * 8) % 1.0))
    if kind == "heart":
        return np.sin(np.pi * np.clip(s, 0, 1) ** 0.52) ** 0.85
    return np.sin(np.pi * (0.15 + 0.85 * s)) ** 0.8


def leaf(
    rng: Rng, root: Point, angle: float, length: float, kind: LeafKind, green: Array, bow: float | None = None
) -> Faces:
    """A leaf from its root in a direction (radians; 0 to the right, positive upwards), with midrib and veins."""
    bow = rng.normal(0, 0.5) if bow is None else bow
    ahead = np.array([np.cos(angle), -np.sin(angle)])
    late = np.array([np.cos(angle - bow), -np.sin(angle - bow)])
    begin = np.asarray(root, float)
    steps, columns = 28 if kind == "toothed" else 18, 6
    path = bezier([begin, begin + ahead * length * 0.35, begin + ahead * length * 0.6, begin + late * length], steps)
    s = np.linspace(0, 1, steps + 1)
    half = np.maximum(outline(kind, s) * SLIMNESS[kind] * length, 0.0015)
    side = np.array([0.90, 0.95, 0.98, 1.10, 1.05, 1.0]) ** rng.choice([-1, 1])
    rib = np.array([0, 0, 0.28, 0.28, 0, 0]) if kind != "blade" else np.zeros(6)
    veins = (0.03 if kind == "heart" else 0.05) * np.cos(
        2 * np.pi * (s[:-1, None] * 6 - np.abs(np.linspace(-1, 1, columns)) * 1.2)
    )
    sheen = 1 + 0.14 * np.sin(np.pi * s[:-1, None] + rng.uniform(0, 3))
    tone = side * (sheen + (veins if kind != "blade" else 0)) + rng.normal(0, 0.02, columns)
    colour = blend(green * tone[..., None], np.clip(green * 1.5 + 0.1, 0, 1), rib * np.ones((steps, 1)))
    return ribbon(path, half, colour, depth=float(rng.normal(0, 0.01)))


def grass(rng: Rng, count: int, green: Array, height: float = 0.4) -> Faces:
    """Blades that rise from the lower edge."""
    roots = np.stack([rng.uniform(-0.1, 1.1, count), np.full(count, 1.05)], axis=1)
    length = height * rng.uniform(0.5, 1.3, count)
    angle = np.pi / 2 + rng.normal(0, 0.3, count)
    end = angle + rng.normal(0, 0.35, count)
    paths = bezier(
        [roots, along(roots, angle, length * 0.4), along(roots, angle, length * 0.7), along(roots, end, length)], 8
    )
    half = rng.uniform(0.004, 0.011, (count, 1)) * (1 - np.linspace(0, 1, 9) ** 2) + 0.0008
    tint = green * rng.uniform(0.7, 1.3, (count, 1)) + rng.normal(0, 0.02, (count, 3))
    across = tint[:, None, None] * np.array([0.85, 1.1])[:, None]
    return ribbons(paths, half, across, rng.normal(0, 0.05, count))


def along(roots: Array, angle: Array, length: Array) -> Array:
    """The points at a length from the roots (P, 2), in a direction (positive upwards)."""
    return roots + np.stack([np.cos(angle), -np.sin(angle)], axis=-1) * length[..., None]


def litter(rng: Rng, count: int) -> Faces:
    """Leaves of all kinds, lying anywhere."""
    return joined(
        [
            leaf(
                rng, rng.uniform(-0.1, 1.1, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45),
                pick(rng, LEAF_KINDS), random_green(rng) * rng.uniform(0.55, 1.1),
            )
            for _ in range(count)
        ]
    )  # fmt: skip


def oval(
    centre: Point, wide: float, high: float, turn: float, colour: Array, lit: float = 0.35, depth: float = 0
) -> Faces:
    """A rounded body, lighter towards the upper left."""
    s = np.linspace(-1, 1, 13)
    path = np.stack([s * np.cos(turn), s * np.sin(turn)], axis=1) * wide + np.asarray(centre, float)
    across = 1 + lit * np.array([0.9, 0.6, 0.2, -0.3, -0.8]) * (1 if np.cos(turn) < 0 else -1)
    return ribbon(path, np.sqrt(np.clip(1 - s**2, 0.02, 1)) * high, colour * across[::-1, None], depth)


def pebbles(rng: Rng, count: int) -> Faces:
    """Stones on the ground."""
    stones = []
    for _ in range(count):
        wide = rng.uniform(0.01, 0.05)
        grey = jittered(rng, (32, 0.15, 0.55), hue=12, value=0.14)
        place = (rng.uniform(0, 1), rng.uniform(0, 1))
        stones.append(oval(place, wide, wide * rng.uniform(0.55, 0.9), rng.normal(0, 0.3), grey, depth=place[1]))
    return joined(stones)


def insect(rng: Rng, x: float, y: float) -> Faces:
    """A ladybird, a bee or a butterfly."""
    turn = rng.uniform(-0.8, 0.8)
    heading = np.array([np.cos(turn), np.sin(turn)])
    side = np.array([-heading[1], heading[0]])
    place = np.array([x, y])
    dark = np.array([0.12, 0.1, 0.09])
    kind = rng.integers(3)
    if kind == 0:
        spots = [
            oval(place + heading * a * 0.012 + side * b * 0.01, 0.0045, 0.0045, 0, dark, depth=0.5)
            for a, b in [(-1, -1), (-1, 1), (0.6, -1), (0.6, 1), (-0.2, 0)]
        ]
        red = jittered(rng, (8, 0.85, 0.8))
        head = oval(place + heading * 0.022, 0.01, 0.012, turn, dark, depth=0.4)
        return joined([oval(place, 0.024, 0.02, turn, red, depth=0.45), head, *spots])
    if kind == 1:
        amber = jittered(rng, (40, 0.8, 0.8))
        stripes = [
            oval(place + heading * offset, 0.008, 0.014, turn, dark if k % 2 else amber, depth=0.4)
            for k, offset in enumerate([-0.024, -0.014, -0.004, 0.006, 0.016])
        ]
        wings = [
            oval(place + side * s * 0.02, 0.012, 0.022, turn + s * 0.4, np.array([0.85, 0.88, 0.9]), depth=0.5)
            for s in (-1, 1)
        ]
        return joined([*stripes, *wings])
    hue = jittered(rng, pick(rng, [(25, 0.8, 0.9), (210, 0.5, 0.85), (55, 0.4, 0.98)]))
    wings = [
        oval(place + side * s * 0.028 + heading * h, 0.026, 0.02, turn + s * 1.1 + h * 20 * s, hue * dim, depth=0.4)
        for s in (-1, 1)
        for h, dim in ((0.014, 1.0), (-0.016, 0.85))
    ]
    return joined([*wings, oval(place, 0.026, 0.004, turn, dark, depth=0.5)])
