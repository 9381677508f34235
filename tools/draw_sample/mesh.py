"""A small 3-D painter: surfaces as coloured quadrilaterals, posed, lit, sorted by depth and filled with Pillow.

Quadrilaterals rather than pixels, because Pillow fills one in three microseconds: a whole rose is some 2,000 of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]


Point = Sequence[float] | Array


@dataclass(frozen=True)
class Faces:
    """Quadrilaterals: corners (F, 4, 3), colours (F, 3) within 0..1, and what to add to each one's depth when sorting.

    The third coordinate points to the viewer. A flower is built around the origin with its face along that axis; after
    `posed`, x and y are fractions of the image, from its upper left corner.
    """

    corners: Array
    colour: Array
    layer: Array


@dataclass(frozen=True)
class Light:
    """The direction to the light (a unit vector, screen axes with y up), and its diffuse share, 0..1."""

    direction: Array
    ambient: float


@dataclass(frozen=True)
class Pose:
    """The position of a flower (fractions of the image) and its direction (radians; tilt 0 faces the viewer)."""

    x: float
    y: float
    radius: float
    tilt: float
    lean: float
    spin: float

    @property
    def axis(self) -> Array:
        """The direction that the flower faces, screen axes with y up."""
        return self.matrix[:, 2]

    @property
    def matrix(self) -> Array:
        """The rotation from the flower's frame to the screen's, (3, 3)."""
        forward = np.array(
            [[1, 0, 0], [0, np.cos(self.tilt), np.sin(self.tilt)], [0, -np.sin(self.tilt), np.cos(self.tilt)]]
        )
        turned: Array = about_axis(self.lean) @ forward @ about_axis(self.spin)
        return turned


def about_axis(angle: float) -> Array:
    """The rotation about the viewing axis, (3, 3)."""
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])


def joined(parts: Sequence[Faces]) -> Faces:
    """All faces of several parts as one."""
    return Faces(
        np.concatenate([part.corners for part in parts]),
        np.concatenate([part.colour for part in parts]),
        np.concatenate([part.layer for part in parts]),
    )


def surfaces(points: Array, colour: Array, layer: Array | float = 0.0) -> Faces:
    """Faces of P curved surfaces: points (P, n+1, m+1, 3), a colour for each cell (P, n, m, 3), a layer for each P."""
    corners = np.stack([points[:, :-1, :-1], points[:, 1:, :-1], points[:, 1:, 1:], points[:, :-1, 1:]], axis=-2)
    cells = corners.shape[:3]
    layers = np.broadcast_to(np.reshape(layer, (-1, 1, 1)), cells)
    return Faces(
        corners.reshape(-1, 4, 3),
        np.broadcast_to(colour, (*cells, 3)).reshape(-1, 3),
        layers.reshape(-1).astype(np.float64),
    )


def posed(faces: Faces, pose: Pose, light: Light) -> Faces:
    """The faces in coordinates of the image, with the shading by the light in their colours."""
    turned = faces.corners @ pose.matrix.T
    normal = np.cross(turned[:, 2] - turned[:, 0], turned[:, 3] - turned[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    # Petals are thin: whichever side is seen is the lit one, and light from behind shines through in part.
    seen = normal * np.where(normal[:, 2:] < 0, -1, 1)
    facing = seen @ light.direction
    strength = np.where(facing > 0, facing, -0.35 * facing)
    shade = light.ambient + (1.12 - light.ambient) * strength
    corners = turned * [pose.radius, -pose.radius, pose.radius] + [pose.x, pose.y, 0]
    return Faces(corners, faces.colour * shade[:, None], faces.layer * pose.radius)


def ribbons(paths: Array, half: Array, across: Array, depth: Array | float = 0.0) -> Faces:
    """P flat bands along paths of the image.

    Points (P, n+1, 2), half widths (P, n+1), a depth for each, and colours (P or 1, n or 1, m, 3) from side to side.
    """
    along = paths[:, 1:] - paths[:, :-1]
    along = np.concatenate([along, along[:, -1:]], axis=1)
    along /= np.hypot(along[..., 0], along[..., 1])[..., None] + 1e-9
    columns = np.linspace(-1, 1, across.shape[-2] + 1)
    points = np.zeros((*paths.shape[:2], len(columns), 3))
    points[..., 0] = paths[..., :1] - (along[..., 1] * half)[..., None] * columns
    points[..., 1] = paths[..., 1:] + (along[..., 0] * half)[..., None] * columns
    points[..., 2] = np.reshape(depth, (-1, 1, 1))
    return surfaces(points, across)


def ribbon(path: Array, half: Array, across: Array, depth: float = 0.0) -> Faces:
    """One flat band: points (n+1, 2), half widths (n+1,), colours (m, 3) or (n, m, 3)."""
    return ribbons(path[None], half[None], across[None] if across.ndim == 3 else across[None, None], depth)


def bezier(points: Sequence[Point], steps: int) -> Array:
    """Cubic curves through the image, (..., steps + 1, 2), from four control points (..., 2) each."""
    t = np.linspace(0, 1, steps + 1)[:, None]
    a, b, c, d = (np.asarray(point, float)[..., None, :] for point in points)
    curve: Array = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
    return curve


def paint(layer: Image.Image, faces: Faces) -> None:
    """Fill the faces into an RGBA image, the farthest first."""
    order = np.argsort(faces.corners[:, :, 2].mean(axis=1) + faces.layer, kind="stable")
    outlines = (faces.corners[order, :, :2] * layer.width).reshape(-1, 8).tolist()
    levels = (faces.colour[order].clip(0, 1) * 255).astype(np.int64)
    # Pillow also takes a colour as one number (alpha highest), which is quicker than a tuple for each of thousands.
    colours = (levels @ [1, 1 << 8, 1 << 16] + (255 << 24)).tolist()
    brush = ImageDraw.Draw(layer)
    for outline, colour in zip(outlines, colours, strict=True):
        brush.polygon(outline, fill=colour)
