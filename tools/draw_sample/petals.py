"""The surfaces of flowers: petals that radiate, petals that wrap around the axis, and discs of seeds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from draw_sample.colour import Rng, blend
from draw_sample.mesh import Array, Faces, surfaces

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
Profile = Callable[[Array], Array]


@dataclass(frozen=True)
class Rays:
    """P petals that radiate from the axis; every field is a number or (P,).

    `rise` is the slope at the base and `bend` what it gains towards the tip (radians); `cup` lifts the edges.
    """

    angle: Array
    length: Array | float
    width: Array | float
    rise: Array | float = 0.0
    bend: Array | float = 0.0
    cup: Array | float = 0.3
    start: Array | float = 0.1
    height: Array | float = 0.0


def finer(steps: tuple[int, int], detail: float) -> tuple[int, int]:
    """Rows and columns of a petal at a level of detail: a small flower needs fewer."""
    return max(4, round(steps[0] * detail)), max(3, round(steps[1] * detail))


def column(value: Array | float) -> Array:
    """A number or (P,) as (P or 1, 1, 1), to meet the rows and columns of a petal."""
    return np.reshape(np.asarray(value, float), (-1, 1, 1))


def rows(count: int) -> Array:
    """Places along a petal, (count + 1,), closer at the tip, where the outline turns."""
    return np.sin(np.linspace(0, np.pi / 2, count + 1)) ** 0.9


def middles(count: int) -> Array:
    """The places half way between the rows, (count,), where cells have their colour."""
    places = rows(count)
    return (places[1:] + places[:-1]) / 2


def strap(s: Array) -> Array:
    """A long petal with parallel sides and a round tip."""
    return (0.5 + 0.5 * np.sin(np.pi * np.clip(s * 0.75, 0, 0.5))) * np.sqrt(1 - (np.clip(s - 0.8, 0, 0.2) / 0.21) ** 2)


def lance(s: Array) -> Array:
    """A petal that swells and ends in a point."""
    return np.sin(np.pi * (0.12 + 0.88 * s**0.85)) ** 0.75


def round_tip(s: Array) -> Array:
    """A broad petal, widest beyond its middle."""
    return (0.3 + 0.7 * np.sin(np.pi / 2 * np.clip(s * 1.5, 0, 1))) * np.sqrt(
        1 - (np.clip(s - 0.55, 0, 0.45) / 0.46) ** 2
    )


def ray_points(rays: Rays, profile: Profile, steps: tuple[int, int]) -> Array:
    """The surface of radiating petals, (P, n+1, m+1, 3)."""
    s = rows(steps[0])[:, None]
    t = np.linspace(-1, 1, steps[1] + 1)
    slope = column(rays.rise) + column(rays.bend) * s
    step = np.diff(s, axis=0, prepend=0.0)
    reach = column(rays.start) + column(rays.length) * np.cumsum(np.cos(slope) * step, axis=1)
    height = column(rays.height) + column(rays.length) * np.cumsum(np.sin(slope) * step, axis=1)
    half = column(rays.width) * profile(s)
    lift = column(rays.cup) * half * t**2
    along, up = reach - lift * np.sin(slope), height + lift * np.cos(slope)
    across = half * t
    angle = column(rays.angle)
    return np.stack(
        np.broadcast_arrays(
            along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle), up
        ),
        axis=-1,
    )


def wrap_points(angle: Array, spread: Array | float, radius: Array, height: Array, outline: Array) -> Array:
    """The surface of petals around the axis, (P, n+1, m+1, 3).

    Radius and height are (P or 1, n+1, m+1 or 1); the petal reaches `spread` × `outline` radians to each side.
    """
    t = np.linspace(-1, 1, outline.shape[-1])
    turn = column(angle) + column(spread) * outline * t
    return np.stack(np.broadcast_arrays(radius * np.cos(turn), radius * np.sin(turn), height), axis=-1)


def petal_colour(
    rng: Rng, base: Array, tip: Array, count: int, steps: tuple[int, int], *, turn: float = 0.5, veins: float = 0.05
) -> Array:
    """A colour for each cell, (count, n, m, 3): base to tip, with veins along and a shade of its own for each petal."""
    s = middles(steps[0])[:, None]
    share = 1 / (1 + np.exp(-(s - turn) * 7))
    shade = 1 + rng.normal(0, 0.035, (count, 1, 1)) + rng.normal(0, veins, (count, 1, steps[1]))
    colour: Array = blend(base, tip, share)[None] * shade[..., None]
    return colour


def seed_disc(rng: Rng, radius: float, count: int, dome: float, colours: tuple[Array, Array, Array]) -> Faces:
    """A dome of seeds in the sunflower's spiral; colours at its centre, half way, and at its rim."""
    index = np.arange(count) + 0.5
    reach = np.sqrt(index / count)
    angle = index * GOLDEN_ANGLE
    size = radius * 1.25 / np.sqrt(count)
    height = dome * (1 - reach**2) + rng.normal(0, 0.1 * size, count)
    middle = np.stack([radius * reach * np.cos(angle), radius * reach * np.sin(angle), height], axis=-1)
    outward = np.stack([np.cos(angle), np.sin(angle), -2 * dome / radius * reach], axis=-1)
    sideways = np.stack([-np.sin(angle), np.cos(angle), np.zeros(count)], axis=-1)
    offsets = np.stack([outward * 1.25, sideways, -outward * 1.25, -sideways], axis=1) * size
    inner = blend(colours[0], colours[1], np.clip(reach * 2, 0, 1))
    colour = blend(inner, colours[2], np.clip(reach * 2 - 1, 0, 1)) * rng.normal(1, 0.16, (count, 1))
    return Faces(middle[:, None] + offsets, colour, np.full(count, 0.02))


def plate(radius: float, height: float, colour: Array, dome: float = 0.0) -> Faces:
    """A closed disc beneath seeds or petals, so that the background does not show between them."""
    turn = np.linspace(0, 2 * np.pi, 25)
    reach = np.linspace(0, radius, 5)[:, None]
    points = np.stack(
        np.broadcast_arrays(reach * np.cos(turn), reach * np.sin(turn), height + dome * (1 - (reach / radius) ** 2)),
        axis=-1,
    )
    return surfaces(points[None], colour, -0.02)


def calyx(rng: Rng, green: Array, top: float, depth: float) -> Faces:
    """The green cup below a flower head, from the stem to radius `top`."""
    steps = (4, 4)
    count = 11
    s = rows(steps[0])[:, None]
    outline = np.broadcast_to(1 - 0.5 * s**3, (1, 5, 5))
    angle = np.arange(count) * 2 * np.pi / count
    points = wrap_points(
        angle, 0.36, (0.06 + (top - 0.06) * np.sin(np.pi / 2 * s))[None], (depth * (s**1.4 - 1))[None], outline
    )
    return surfaces(points, petal_colour(rng, green * 0.8, green * 1.1, count, steps), -0.6)


def needles(start: Array, end: Array, width: float, colour: Array) -> Faces:
    """Fine straight hairs, (F, 3) to (F, 3)."""
    side = np.cross(end - start, [0.3, 0.5, 0.8])
    side *= width / (np.linalg.norm(side, axis=1, keepdims=True) + 1e-9)
    corners = np.stack([start - side, start + side, end + side * 0.5, end - side * 0.5], axis=1)
    return Faces(corners, np.broadcast_to(colour, (len(start), 3)), np.zeros(len(start)))


def lifted(faces: Faces, step: float) -> Faces:
    """The same faces, drawn later or earlier than their depth: a disc covers the roots of the petals around it."""
    return Faces(faces.corners, faces.colour, faces.layer + step)
