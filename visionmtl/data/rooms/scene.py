"""What a procedural room is made of.

World frame: metres, x and z horizontal, y *down* like in the camera. The room is 0..width,
-height..0, 0..length, so the floor is y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]

Axes = tuple[Vector, Vector, Vector]
"""Right, down and forward unit vectors of a camera."""

SIDES = 6
"""The first panels of a scene are the sides of the room."""

ACROSS = ((2, 1), (0, 2), (0, 1))
"""The two axes within a plane that is orthogonal to axis 0, 1 or 2; on walls the horizontal one
comes first.
"""

OBJECTS = ("box", "sphere", "cylinder")
CLASSES = ("floor", "ceiling", "wall", "rug", "door", "window", "picture", *OBJECTS)

LATTICE = 32
"""Cells per side, a power of two, of the periodic table of random numbers behind the noise and
plank textures.
"""


@dataclass(frozen=True)
class Texture:
    """A pattern that mixes two colours: ``kind`` is a key of
    ``visionmtl.data.rooms.patterns.PATTERNS``.

    Attributes:
        colors: two linear RGB colours in 0..1.
        cell: size of the pattern in metres.
        phase: shift of the pattern in cells; a random one keeps flat faces off the borders of the
            cells.
        gloss: strength of the highlight, 0..1.
    """

    kind: str
    colors: tuple[Vector, Vector]
    cell: float = 1.0
    phase: float = 0.0
    gloss: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A rectangle on a side of the room, or (``half`` infinite) the whole side.

    Attributes:
        axis: 0, 1 or 2, the axis that the side is orthogonal to.
        far: whether it is the side with the larger coordinate.
        center: metres along the two other axes; on walls the horizontal one comes first, on the
            floor x.
        half: half sizes in metres along the same axes.
        border: width in metres of the frame, drawn in the colour ``frame``; ``bars`` adds a cross
            to it.
        glow: linear light that the panel emits inside its frame.
    """

    label: str
    axis: int
    far: bool
    texture: Texture
    center: tuple[float, float] = (0.0, 0.0)
    half: tuple[float, float] = (np.inf, np.inf)
    border: float = 0.0
    frame: Vector = (0.8, 0.8, 0.8)
    bars: bool = False
    glow: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A box, an upright cylinder or a sphere; its class is its shape.

    Attributes:
        half: half sizes in metres; cylinder (radius, half height, radius), sphere (radius, radius,
            radius).
        turn: cosine and sine of the rotation about the vertical.
    """

    label: str
    center: Vector
    half: Vector
    turn: tuple[float, float]
    texture: Texture


@dataclass(frozen=True)
class Scene:
    """A room with its content, camera and light; it knows nothing of pixels.

    Attributes:
        room: width (x), height (y), length (z) in metres.
        axes: right, down and forward unit vectors of the camera.
        focal: focal length in units of the longer side of the image.
        panels: the six sides of the room (floor, ceiling, walls), then the rectangles on them.
        lamp: linear RGB of the point light; ``ambient`` is that of the light from everywhere.
        lattice: float32 (LATTICE, LATTICE), random numbers in 0..1.
    """

    room: Vector
    eye: Vector
    axes: Axes
    focal: float
    panels: tuple[Panel, ...]
    solids: tuple[Solid, ...]
    light: Vector
    lamp: Vector
    ambient: Vector
    lattice: np.ndarray

    @property
    def parts(self) -> tuple[Panel | Solid, ...]:
        """All that a ray can meet; the position is the index of the surface."""
        return (*self.panels, *self.solids)
