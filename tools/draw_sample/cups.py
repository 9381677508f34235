"""Flowers whose petals wrap around the axis: rose and tulip."""

from dataclasses import dataclass

import numpy as np

from draw_sample.colour import Hsv, Rng, blend, jittered
from draw_sample.heads import choose
from draw_sample.mesh import Array, Faces, joined, surfaces
from draw_sample.petals import (
    GOLDEN_ANGLE,
    Rays,
    calyx,
    column,
    finer,
    lance,
    lifted,
    middles,
    needles,
    petal_colour,
    plate,
    ray_points,
    rows,
    wrap_points,
)

ROSE_PETALS: list[tuple[float, Hsv, Hsv]] = [
    (1.8, (352, 0.92, 0.50), (354, 0.88, 0.80)),
    (1.8, (345, 0.55, 0.85), (342, 0.32, 0.97)),
    (2.0, (48, 0.85, 0.92), (52, 0.55, 1.0)),
    (2.0, (50, 0.28, 0.93), (45, 0.06, 1.0)),
    (1.3, (32, 0.85, 0.95), (18, 0.62, 0.98)),
    (1.0, (325, 0.75, 0.62), (328, 0.62, 0.85)),
    (0.8, (280, 0.35, 0.70), (285, 0.25, 0.86)),
]
TULIP_PETALS: list[tuple[float, Hsv, Hsv]] = [
    (1.8, (350, 0.90, 0.68), (356, 0.90, 0.88)),
    (2.2, (50, 0.90, 0.95), (50, 0.85, 1.0)),
    (1.8, (70, 0.22, 0.92), (50, 0.05, 1.0)),
    (1.6, (335, 0.25, 0.95), (336, 0.55, 0.94)),
    (1.4, (285, 0.55, 0.45), (290, 0.50, 0.62)),
    (1.4, (42, 0.92, 0.97), (16, 0.88, 0.95)),
    (0.9, (355, 0.85, 0.75), (52, 0.75, 0.98)),
]
CUPPED = [*ROSE_PETALS, *TULIP_PETALS]


@dataclass(frozen=True)
class Rose:
    """A spiral of round petals, tight within and open without."""

    petals: tuple[Array, Array]
    green: Array
    count: int
    openness: float

    @classmethod
    def species(cls, rng: Rng) -> "Rose":
        """One species, at random."""
        return cls(
            petals=choose(rng, ROSE_PETALS, CUPPED),
            green=jittered(rng, (105, 0.5, 0.38)),
            count=int(rng.integers(18, 30)),
            openness=float(rng.uniform(0.35, 1.0)),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower of radius 1."""
        steps = finer((8, 11), detail)
        count = self.count
        age = np.arange(count) / (count - 1)
        t = np.linspace(-1, 1, steps[1] + 1)
        # The surface ends earlier at its sides: that rounds the rim.
        s = rows(steps[0])[:, None] * (1 - column(0.3 + 0.2 * age) * np.abs(t) ** 2.6)
        rim = s**6 * column(rng.uniform(0.3, 1.2, count)) * (1 + 0.5 * np.cos(2 * t + column(rng.uniform(0, 6, count))))
        top = column(0.80 - 0.42 * self.openness * age**1.4 + rng.normal(0, 0.03, count))
        reach = column(0.06 + 0.60 * age**0.9) * (0.42 + 0.58 * s)
        flare = column(self.openness * 0.42 * age**1.5) * s**2.2
        # One side lies deeper than the other, as in any spiral.
        radius = (reach + flare + 0.09 * column(age) * rim) * (1 + 0.10 * t)
        height = top * np.sin(1.45 * s) - 0.1 * column(0.2 + age) * rim - column(0.2 * age)
        angle = np.arange(count) * GOLDEN_ANGLE + rng.normal(0, 0.15, count)
        outline = np.ones((1, steps[0] + 1, steps[1] + 1))
        petals = wrap_points(angle, 1.5 - 0.72 * age**0.6, radius, height, outline)
        # The sepals would show through the gaps between the petals of the cup.
        ground = lifted(plate(0.4, -0.1, self.petals[0] * 0.35), -0.2)
        below = [self._sepals(rng), calyx(rng, self.green, 0.22, 0.2), ground]
        return joined([*below, surfaces(petals, self._colour(rng, age, steps))])

    def _colour(self, rng: Rng, age: Array, steps: tuple[int, int]) -> Array:
        base, tip = self.petals
        colour = petal_colour(rng, base, tip, self.count, steps, turn=0.62, veins=0.02)
        s = middles(steps[0])[:, None, None]
        # Little light reaches between the petals, least at the heart.
        dim = 0.36 + 0.70 * s**1.3 * (0.82 + 0.18 * column(age)[..., None])
        across = np.abs(np.linspace(-1, 1, steps[1]))[:, None]
        shaded: Array = colour * dim * (1 - 0.12 * across**2)
        return shaded

    def _sepals(self, rng: Rng) -> Faces:
        angle = np.arange(5) * 2 * np.pi / 5 + rng.normal(0, 0.1, 5)
        rays = Rays(angle, length=0.55, width=0.1, rise=rng.uniform(-0.4, 0.5), bend=-0.5, start=0.12, height=-0.2)
        colour = petal_colour(rng, self.green, self.green * 1.15, 5, (5, 2))
        return surfaces(ray_points(rays, lance, (5, 2)), colour, -1.0)


@dataclass(frozen=True)
class Tulip:
    """A cup of six petals in two rings of three."""

    petals: tuple[Array, Array]
    flame: Array
    flamed: float
    green: Array
    openness: float
    slim: float
    pointed: float

    @classmethod
    def species(cls, rng: Rng) -> "Tulip":
        """One species, at random."""
        base, tip = choose(rng, TULIP_PETALS, CUPPED)
        return cls(
            petals=(base, tip),
            flame=blend(base, jittered(rng, (60, 0.5, 0.85)), 0.5),
            flamed=float(rng.choice([0.0, 0.5, 0.9], p=[0.5, 0.3, 0.2])),
            green=jittered(rng, (105, 0.42, 0.5)),
            openness=float(rng.beta(1.3, 2.2)),
            slim=float(rng.uniform(0.85, 1.1)),
            pointed=float(rng.uniform(1.5, 3.2)),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower about 2 high, its middle at the origin."""
        steps = finer((16, 12), detail)
        ring = np.array([0, 0, 0, 1, 1, 1])
        angle = np.array([0, 2, 4, 1, 3, 5]) * np.pi / 3 + rng.normal(0, 0.08, 6)
        s = rows(steps[0])[:, None]
        t = np.linspace(-1, 1, steps[1] + 1)
        open_ = column(self.openness + rng.normal(0, 0.07, 6))
        belly = np.sin(np.pi * np.clip(0.02 + 0.66 * s**0.75, 0, 1)) ** 0.8
        radius = self.slim * (0.6 + 0.06 * column(ring)) * belly * (1 + 0.06 * t**2) + (open_ * 0.75 - 0.1) * s**2.2
        tall = column(1.75 * rng.normal(1, 0.03, 6) * (1 - 0.22 * self.openness))
        height = tall * (s - 0.5) - 0.35 * open_ * s**4
        width = np.where(s < 0.5, 0.75 + 0.5 * s, (1 - (np.clip(s - 0.5, 0, 0.5) / 0.505) ** self.pointed) ** 0.62)
        outline = np.broadcast_to(width, (1, steps[0] + 1, steps[1] + 1))
        points = wrap_points(angle, 0.86 - 0.18 * column(self.openness), radius, height, outline)
        return joined([self._heart(rng), surfaces(points, self._colour(rng, ring, steps))])

    def _heart(self, rng: Rng) -> Faces:
        turn = np.arange(6) * np.pi / 3
        roots = np.stack([0.08 * np.cos(turn), 0.08 * np.sin(turn), np.full(6, -0.6)], axis=-1)
        tips = roots * [3.2, 3.2, 0.25] + rng.normal(0, 0.02, (6, 3))
        pistil = needles(np.array([[0, 0, -0.7]]), np.array([[0, 0, -0.15]]), 0.07, self.green * 1.3)
        return joined([pistil, needles(roots, tips, 0.035, np.array([0.22, 0.16, 0.2]))])

    def _colour(self, rng: Rng, ring: Array, steps: tuple[int, int]) -> Array:
        colour = petal_colour(rng, *self.petals, 6, steps, turn=0.45, veins=0.045)
        s = middles(steps[0])[:, None]
        across = np.abs(np.linspace(-1, 1, steps[1]))
        stripe = np.clip(1.15 - s - 1.6 * across, 0, 1) * self.flamed
        base = np.clip(1 - s * 7, 0, 1) * 0.5 * np.ones_like(across)
        green = blend(blend(colour, self.flame, stripe), self.green * 1.2, base)
        shaded: Array = green * (1.0 - 0.14 * column(ring)[..., None]) * (1 - 0.10 * across**2)[:, None]
        return shaded
