"""Geometry of the procedural rooms: rays against a box-shaped room with boxes, spheres and
cylinders in it.

World frame: metres, x and z horizontal, y *down* like in the camera. The room is 0..width,
-height..0, 0..length, so the floor is y = 0. Rays have z = 1 in the camera frame, which makes the
ray parameter of a hit its planar depth. Everything is written with + - * / sqrt and floor, which
IEEE 754 rounds the same way on every machine: no powers, no trigonometry, no matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from visionmtl.types import Camera

Vector = tuple[float, float, float]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One array per axis x, y, z."""

SIDES = 6
"""The first panels of a scene are the sides of the room."""

_ACROSS = ((2, 1), (0, 2), (0, 1))
"""The two axes within a plane that is orthogonal to axis 0, 1 or 2; on walls the horizontal one
comes first.
"""
_ROUND: dict[str, tuple[tuple[int, ...], ...]] = {
    "box": (),
    "sphere": ((0, 1, 2),),
    "cylinder": ((0, 2),),
}
_SLABS: dict[str, tuple[int, ...]] = {"box": (0, 1, 2), "sphere": (), "cylinder": (1,)}


@dataclass(frozen=True)
class Texture:
    """A pattern that mixes two colours: ``kind`` is a key of
    ``visionmtl.data.rooms.shading.PATTERNS``.

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
    axes: tuple[Vector, Vector, Vector]
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


class Patch(NamedTuple):
    """The visible pixels (flat indices) of one panel or solid, and their texture coordinates in
    metres.
    """

    part: Panel | Solid
    here: np.ndarray
    a: np.ndarray
    b: np.ndarray


@dataclass(frozen=True)
class View:
    """What the camera of a scene sees; N = H * W pixels in rows.

    Attributes:
        depth: float32 (H, W), planar metres.
        normals: float32 (H, W, 3), unit, camera frame, facing the camera.
        surface: uint8 (H, W), index into ``scene.parts``.
        directions, points, world_normals: float32 (3, N), rays, hits and normals in the world
            frame.
    """

    camera: Camera
    depth: np.ndarray
    normals: np.ndarray
    surface: np.ndarray
    directions: np.ndarray
    points: np.ndarray
    world_normals: np.ndarray
    patches: list[Patch]


def cast(scene: Scene, size: tuple[int, int]) -> View:
    """Shoot one ray through the centre of each pixel of an image of ``size`` (H, W)."""
    height, width = size
    focal = scene.focal * max(size)
    camera = Camera(focal, focal, width / 2, height / 2, width, height)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # rays parallel to a plane meet it at infinity
        rays = _rays(scene, camera)
        depth, surface = _trace(scene, camera, rays)
        points = np.stack([(o + depth * d).ravel() for o, d in zip(scene.eye, rays, strict=True)])
        normals, patches = _surfaces(scene, points, surface.ravel())
    in_camera = [x * normals[0] + y * normals[1] + z * normals[2] for x, y, z in scene.axes]
    return View(
        camera=camera,
        depth=depth.astype(np.float32),
        normals=np.stack(in_camera, axis=-1).astype(np.float32).reshape(height, width, 3),
        surface=surface,
        directions=np.stack([d.ravel() for d in rays]).astype(np.float32),
        points=points.astype(np.float32),
        world_normals=normals.astype(np.float32),
        patches=patches,
    )


def _rays(scene: Scene, camera: Camera) -> Arrays:
    """World directions, each (H, W), whose z in the camera frame is 1."""
    u = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    v = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    right, down, forward = scene.axes
    x, y, z = ((right[i] * u + forward[i]) + (down[i] * v)[:, None] for i in range(3))
    return x, y, z


def _trace(scene: Scene, camera: Camera, rays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Planar depth (H, W) and the index of the nearest surface uint8 (H, W)."""
    width, height, length = scene.room
    bounds = ((0.0, width), (-height, 0.0), (0.0, length))
    exits = [
        np.maximum((lo - o) / d, (hi - o) / d)
        for (lo, hi), o, d in zip(bounds, scene.eye, rays, strict=True)
    ]
    depth = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    surface = np.empty(depth.shape, np.uint8)
    for index, panel in enumerate(scene.panels[:SIDES]):
        surface[(exits[panel.axis] == depth) & ((rays[panel.axis] > 0) == panel.far)] = index
    pixels = {
        (p.axis, p.far): np.flatnonzero(surface == index)
        for index, p in enumerate(scene.panels[:SIDES])
    }
    for index, panel in enumerate(scene.panels[SIDES:], SIDES):
        here = pixels[panel.axis, panel.far]
        a, b = (scene.eye[i] + depth.take(here) * rays[i].take(here) for i in _ACROSS[panel.axis])
        inside = (abs(a - panel.center[0]) < panel.half[0]) & (
            abs(b - panel.center[1]) < panel.half[1]
        )
        surface.flat[here[inside]] = index
    for index, solid in enumerate(scene.solids, len(scene.panels)):
        crop = _crop(scene, camera, solid)
        hit = entry(solid, scene.eye, (rays[0][crop], rays[1][crop], rays[2][crop]))
        nearer = hit < depth[crop]
        np.copyto(depth[crop], hit, where=nearer)
        surface[crop][nearer] = index
    return depth, surface


def _crop(scene: Scene, camera: Camera, solid: Solid) -> tuple[slice, slice]:
    """The rows and columns that a solid can touch, from the corners of its bounding box."""
    columns, rows = [], []
    for corner in product(*((-h, h) for h in solid.half)):
        x, y, z = (
            c + p - e
            for c, p, e in zip(solid.center, _turn(solid.turn, corner, -1), scene.eye, strict=True)
        )
        u, v, forward = (axis[0] * x + axis[1] * y + axis[2] * z for axis in scene.axes)
        if forward < 0.05:  # the box reaches behind the camera
            return slice(None), slice(None)
        columns.append(int(camera.fx * u / forward + camera.cx))
        rows.append(int(camera.fy * v / forward + camera.cy))
    top, bottom, left, right = min(rows) - 1, max(rows) + 2, min(columns) - 1, max(columns) + 2
    return slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))


def _turn(turn: tuple[float, float], xyz: Any, sense: int = 1) -> tuple[Any, Any, Any]:
    """World to local axes of a solid, or back with ``sense`` -1; numbers or arrays."""
    x, y, z = xyz
    cos, sin = turn[0], sense * turn[1]
    return cos * x - sin * z, y, sin * x + cos * z


def entry(solid: Solid, origin: Vector, direction: Arrays) -> np.ndarray:
    """Ray parameter where rays from ``origin`` enter a solid; inf where they miss it or start
    inside.

    Every solid is an intersection of slabs and rounds, so a ray is inside between the last entry
    and the first exit.
    """
    o = _turn(solid.turn, tuple(o - c for o, c in zip(origin, solid.center, strict=True)))
    d = _turn(solid.turn, direction)
    cuts = [_round(o, d, solid.half[0], axes) for axes in _ROUND[solid.label]]
    cuts += [_slab(o[axis], d[axis], solid.half[axis]) for axis in _SLABS[solid.label]]
    near, far = cuts[0]
    for enter, leave in cuts[1:]:
        near, far = np.maximum(near, enter), np.minimum(far, leave)
    return np.where((near < far) & (near > 0), near, np.inf)


def _slab(o: float, d: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Where rays are between two parallel planes."""
    inverse = 1 / d
    middle, reach = -o * inverse, half * abs(inverse)
    return middle - reach, middle + reach


def _round(
    o: Vector, d: Arrays, radius: float, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays are inside a sphere (three axes) or an endless cylinder (two axes); never where
    the two are equal.
    """
    square = sum((d[i] * d[i] for i in axes[1:]), d[axes[0]] * d[axes[0]])
    along = sum((o[i] * d[i] for i in axes[1:]), o[axes[0]] * d[axes[0]])
    root = np.sqrt(
        np.maximum(along * along - square * (sum(o[i] * o[i] for i in axes) - radius * radius), 0)
    )
    return (-along - root) / square, (-along + root) / square


def _surfaces(
    scene: Scene, points: np.ndarray, surface: np.ndarray
) -> tuple[np.ndarray, list[Patch]]:
    """World normals float64 (3, N) towards the eye, and the visible patches with their texture
    coordinates.
    """
    normals = np.empty_like(points)
    patches = []
    for index in np.flatnonzero(np.bincount(surface)).tolist():
        part, here = scene.parts[index], np.flatnonzero(surface == index)
        if isinstance(part, Panel):
            normals[:, here] = 0
            normals[part.axis, here] = -1 if part.far else 1
            a, b = (points[axis].take(here) for axis in _ACROSS[part.axis])
            a, b = a - part.center[0], b - part.center[1]
        else:
            local = _turn(part.turn, [points[i].take(here) - part.center[i] for i in range(3)])
            normal, a, b = _wrap(part, local)
            for axis, values in enumerate(_turn(part.turn, normal, -1)):
                normals[axis, here] = values
        patches.append(Patch(part, here, a.astype(np.float32), b.astype(np.float32)))
    return normals, patches


def _wrap(solid: Solid, p: Arrays) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Outward normals and texture coordinates, in metres, at points on a solid; all in its local
    axes.
    """
    x, y, z = p
    hx, hy, hz = solid.half
    if solid.label == "sphere":
        return (x / hx, y / hx, z / hx), _around(x, z, hx), y
    if solid.label == "cylinder":
        radius = np.sqrt(x * x + z * z)
        cap = abs(y) * hx > radius * hy
        normal = (
            np.where(cap, 0, x / radius),
            np.where(cap, np.sign(y), 0),
            np.where(cap, 0, z / radius),
        )
        return normal, np.where(cap, x, _around(x, z, hx)), np.where(cap, z, y)
    rx, ry, rz = abs(x) / hx, abs(y) / hy, abs(z) / hz
    on_y = ry >= np.maximum(rx, rz)
    on_x = ~on_y & (rx >= rz)
    faces = ((on_x, x), (on_y, y), (~on_x & ~on_y, z))
    nx, ny, nz = (np.where(on, np.sign(side), 0.0) for on, side in faces)
    return (nx, ny, nz), np.where(on_x, z, x), np.where(on_y, z, y)


def _around(x: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """About the arc length around the vertical: the angle in the norm |x| + |z|, which needs no
    arctangent.
    """
    quarter = z / np.maximum(abs(x) + abs(z), 1e-9)
    return np.where(x > 0, quarter, 2 - quarter) * (1.57 * radius)
