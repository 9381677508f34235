"""Flowers of many rays around a head: daisy, sunflower and dandelion.

A species is chosen once per image (its colours and proportions); its blooms then differ only in the details.
"""

from dataclasses import dataclass

import numpy as np

from draw_sample.colour import Hsv, Rng, jittered, pick
from draw_sample.mesh import Array, Faces, joined, surfaces
from draw_sample.petals import (
    GOLDEN_ANGLE,
    Rays,
    calyx,
    finer,
    lance,
    lifted,
    needles,
    petal_colour,
    plate,
    ray_points,
    seed_disc,
    strap,
)

# Base and tip of the petals, by weight.
DAISY_PETALS: list[tuple[float, Hsv, Hsv]] = [
    (4, (50, 0.06, 0.97), (45, 0.02, 1.0)),
    (2, (320, 0.10, 0.98), (328, 0.45, 0.92)),
    (1.2, (52, 0.45, 0.98), (50, 0.30, 1.0)),
    (1.4, (270, 0.25, 0.90), (275, 0.50, 0.78)),
    (1, (338, 0.75, 0.80), (340, 0.62, 0.92)),
    (0.8, (35, 0.75, 0.98), (25, 0.80, 0.96)),
]
SUNFLOWER_PETALS: list[tuple[float, Hsv, Hsv]] = [
    (4, (38, 0.95, 0.96), (47, 0.90, 1.0)),
    (1.6, (25, 0.95, 0.88), (36, 0.92, 0.98)),
    (1.6, (10, 0.85, 0.55), (20, 0.85, 0.75)),
    (1, (355, 0.80, 0.42), (38, 0.85, 0.93)),
    (1.8, (50, 0.50, 0.97), (52, 0.22, 0.99)),
    (0.8, (345, 0.60, 0.50), (350, 0.40, 0.80)),
]
DANDELION_FLORETS: list[tuple[float, Hsv, Hsv]] = [
    (4, (44, 0.97, 0.95), (52, 0.90, 1.0)),
    (1.5, (34, 0.97, 0.94), (42, 0.92, 1.0)),
    (1.2, (52, 0.75, 0.92), (56, 0.48, 1.0)),
    (0.8, (50, 0.35, 0.93), (45, 0.06, 1.0)),
    (0.7, (22, 0.92, 0.90), (30, 0.88, 0.98)),
]
RAYED = [*DAISY_PETALS, *SUNFLOWER_PETALS, *DANDELION_FLORETS]
# How often a species has a colour of its whole family, so that colour does not tell the classes apart.
SHARED = 0.4


def choose(rng: Rng, own: list[tuple[float, Hsv, Hsv]], family: list[tuple[float, Hsv, Hsv]]) -> tuple[Array, Array]:
    """Base and tip colours of one species, near a pair of its class or of its family."""
    options = family if rng.random() < SHARED else own
    _, base, tip = pick(rng, options, [option[0] for option in options])
    return jittered(rng, base), jittered(rng, tip)


@dataclass(frozen=True)
class Daisy:
    """Thin straps around a small disc."""

    petals: tuple[Array, Array]
    disc: tuple[Array, Array, Array]
    green: Array
    count: int
    width: float
    disc_size: float
    rise: float

    @classmethod
    def species(cls, rng: Rng) -> "Daisy":
        """One species, at random."""
        hue = pick(rng, [46.0, 38.0, 58.0, 28.0], [5, 3, 1, 1])
        rim, deep = jittered(rng, (hue, 0.92, 0.93)), jittered(rng, (hue + 8, 0.85, 0.78))
        count = int(rng.integers(15, 31))
        return cls(
            petals=choose(rng, DAISY_PETALS, RAYED),
            disc=(deep, rim, rim * 0.88),
            green=jittered(rng, (95, 0.5, 0.45)),
            count=count,
            width=float(rng.uniform(0.085, 0.115) * (24 / count) ** 0.7),
            disc_size=float(rng.uniform(0.2, 0.29)),
            rise=float(rng.uniform(-0.1, 0.3)),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower head of radius 1."""
        steps = finer((8, 4), detail)
        count = self.count
        rays = Rays(
            angle=np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.06, count),
            length=(1 - self.disc_size * 0.8) * rng.normal(1, 0.05, count),
            width=self.width * rng.normal(1, 0.1, count),
            rise=self.rise + rng.normal(0, 0.06, count),
            bend=-self.rise * 0.8 - 0.15 + rng.normal(0, 0.14, count),
            cup=rng.normal(0.35, 0.2, count),
            start=self.disc_size * 0.8,
        )
        colour = petal_colour(rng, *self.petals, count, steps, turn=0.45, veins=0.045)
        petals = surfaces(ray_points(rays, strap, steps), colour, rng.normal(0, 0.1, count))
        disc = seed_disc(rng, self.disc_size, 130, self.disc_size * 0.45, self.disc)
        base = plate(self.disc_size, 0, self.disc[2] * 0.7, self.disc_size * 0.4)
        return joined(
            [calyx(rng, self.green, self.disc_size * 1.1, 0.22), petals, lifted(base, 0.15), lifted(disc, 0.15)]
        )


@dataclass(frozen=True)
class Sunflower:
    """A big disc of seeds inside two rings of pointed petals."""

    petals: tuple[Array, Array]
    disc: tuple[Array, Array, Array]
    green: Array
    count: int
    disc_size: float
    rise: float

    @classmethod
    def species(cls, rng: Rng) -> "Sunflower":
        """One species, at random."""
        dark = jittered(rng, pick(rng, [(25, 0.6, 0.22), (30, 0.65, 0.34), (15, 0.5, 0.15)]))
        heart = pick(rng, [dark * 1.2, jittered(rng, (75, 0.55, 0.45)), dark * 0.8])
        return cls(
            petals=choose(rng, SUNFLOWER_PETALS, RAYED),
            disc=(heart, dark, jittered(rng, (32, 0.75, 0.55))),
            green=jittered(rng, (88, 0.5, 0.42)),
            count=int(rng.integers(13, 21)),
            disc_size=float(rng.uniform(0.4, 0.52)),
            rise=float(rng.uniform(-0.05, 0.35)),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower head of radius 1."""
        rings = [self._ring(rng, ring, detail) for ring in range(2)]
        disc = seed_disc(rng, self.disc_size, int(420 * detail), self.disc_size * 0.22, self.disc)
        base = plate(self.disc_size, 0, self.disc[1] * 0.6, self.disc_size * 0.2)
        return joined([calyx(rng, self.green, self.disc_size, 0.22), *rings, lifted(base, 0.15), lifted(disc, 0.15)])

    def _ring(self, rng: Rng, ring: int, detail: float) -> Faces:
        steps = finer((9, 4), detail)
        count = self.count
        rays = Rays(
            angle=(np.arange(count) + ring / 2) * 2 * np.pi / count + rng.normal(0, 0.08, count),
            length=(1 - self.disc_size * 0.85) * rng.normal(1.02 - 0.05 * ring, 0.07, count),
            width=rng.normal(0.118, 0.012, count) * (17 / count) ** 0.6,
            rise=self.rise + 0.15 * ring + rng.normal(0, 0.1, count),
            bend=-self.rise + rng.normal(0, 0.25, count),
            cup=rng.normal(0.4, 0.25, count),
            start=self.disc_size * 0.85,
        )
        colour = petal_colour(rng, *self.petals, count, steps, turn=0.4, veins=0.06) * (0.88 + 0.12 * ring)
        return surfaces(ray_points(rays, lance, steps), colour, rng.normal(0, 0.04, count) + 0.1 * ring)


@dataclass(frozen=True)
class Dandelion:
    """A dense pompon of narrow florets."""

    florets: tuple[Array, Array]
    green: Array
    count: int
    openness: float

    @classmethod
    def species(cls, rng: Rng) -> "Dandelion | Clock":
        """One species, at random, in flower or gone to seed."""
        if rng.random() < 0.42:
            return Clock.species(rng)
        return cls(
            florets=choose(rng, DANDELION_FLORETS, RAYED),
            green=jittered(rng, (92, 0.5, 0.45)),
            count=int(rng.integers(190, 250)),
            openness=float(rng.uniform(0.75, 1.0)),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One flower head of radius 1."""
        steps = (4, 2)
        outward = np.sqrt((np.arange(self.count) + 0.5) / self.count)
        rise = 1.5 - 1.55 * outward**1.2 * self.openness + rng.normal(0, 0.06, self.count)
        # The tips lie on a flattened dome.
        length = 0.9 / np.hypot(np.cos(rise), 1.55 * np.sin(rise)) * rng.normal(1, 0.05, self.count)
        rays = Rays(
            angle=np.arange(self.count) * GOLDEN_ANGLE + rng.normal(0, 0.1, self.count),
            length=length,
            width=rng.normal(0.043, 0.005, self.count),
            rise=rise + 0.1,
            bend=rng.normal(-0.2, 0.12, self.count),
            cup=0.5,
            start=0.02 + 0.06 * outward,
        )
        shade = (0.86 + 0.14 * outward)[:, None, None, None] * rng.normal(1, 0.08, (self.count, 1, 1, 1))
        base = self.florets[0] * [0.82, 0.72, 0.7]
        colour = petal_colour(rng, base, self.florets[1], self.count, steps, turn=0.6, veins=0.04) * shade
        florets = surfaces(ray_points(rays, strap, steps), colour, rng.normal(0, 0.02, self.count))
        bed = plate(0.34, -0.02, self.florets[0] * 0.7)
        return joined([calyx(rng, self.green, 0.3, 0.3), bed, florets])


@dataclass(frozen=True)
class Clock:
    """A dandelion gone to seed: a sphere of parachutes, some of them flown."""

    hair: Array
    seed: Array
    green: Array
    count: int
    flown: float

    @classmethod
    def species(cls, rng: Rng) -> "Clock":
        """One seed head, at random."""
        tint = pick(rng, [(45.0, 0.04, 1.0), (38.0, 0.22, 0.98), (210.0, 0.10, 0.97), (25.0, 0.35, 0.95)], [5, 2, 2, 1])
        return cls(
            hair=jittered(rng, tint, saturation=0.02, value=0.02),
            seed=jittered(rng, (28, 0.55, 0.35)),
            green=jittered(rng, (85, 0.4, 0.5)),
            count=int(rng.integers(90, 150)),
            flown=float(pick(rng, [0.0, 0.1, 0.35], [5, 3, 1])),
        )

    def bloom(self, rng: Rng, detail: float = 1.0) -> Faces:
        """One seed head of radius 1."""
        index = np.arange(self.count) + 0.5
        height = 1 - 2 * index / self.count
        ring = np.sqrt(1 - height**2)
        angle = index * GOLDEN_ANGLE
        outward = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1)
        outward += rng.normal(0, 0.05, outward.shape)
        windward = outward @ rng.normal(size=3)
        outward = outward[windward <= np.quantile(windward, 1 - self.flown)]
        stalks = needles(outward * 0.12, outward * 0.72, 0.006, self.hair * 0.72)
        seeds = needles(outward * 0.1, outward * 0.24, 0.02, self.seed)
        core = seed_disc(rng, 0.13, 40, 0.13, (self.seed, self.seed, self.seed * 0.8))
        cup = calyx(rng, self.green, 0.13, 0.12)
        return joined([cup, core, stalks, seeds, self._parachutes(rng, outward)])

    def _parachutes(self, rng: Rng, outward: Array) -> Faces:
        hairs = 12
        some = rng.normal(size=outward.shape)
        first = np.cross(outward, some)
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(outward, first)
        turn = np.arange(hairs) * 2 * np.pi / hairs
        spread = first[:, None] * np.cos(turn)[:, None] + second[:, None] * np.sin(turn)[:, None]
        tips = outward[:, None] * rng.normal(0.96, 0.02, (len(outward), hairs, 1)) + 0.19 * spread
        roots = np.broadcast_to((outward * 0.72)[:, None], tips.shape)
        return needles(roots.reshape(-1, 3), tips.reshape(-1, 3), 0.004, self.hair)
