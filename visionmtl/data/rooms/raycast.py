"""Rays from the camera of a procedural room to what it sees.

Rays have z = 1 in the camera frame, which makes the ray parameter of a hit its planar depth. The
arithmetic keeps to the rule of ``solids``: only operations that every machine rounds the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from visionmtl.data.rooms.scene import ACROSS, SIDES, Scene, Solid
from visionmtl.data.rooms.solids import Arrays, entry, turn
from visionmtl.data.rooms.surfaces import Patch, surfaces
from visionmtl.types import Camera

BEHIND = 0.05
"""Metres before the camera below which a corner counts as behind it."""


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
    # Rays that are parallel to a plane meet it at infinity.
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = _rays(scene, camera)
        depth, surface = _trace(scene, camera, rays)
        points = np.stack([(scene.eye[i] + depth * rays[i]).ravel() for i in range(3)])
        normals, patches = surfaces(scene, points, surface.ravel())
    in_camera = [x * normals[0] + y * normals[1] + z * normals[2] for x, y, z in scene.axes]
    return View(
        camera=camera,
        depth=depth.astype(np.float32),
        normals=np.stack(in_camera, axis=-1).astype(np.float32).reshape(height, width, 3),
        surface=surface,
        directions=np.stack([ray.ravel() for ray in rays]).astype(np.float32),
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
    depth, surface = _room(scene, rays)
    _panels(scene, rays, depth, surface)
    for index, solid in enumerate(scene.solids, len(scene.panels)):
        crop = _crop(scene, camera, solid)
        hit = entry(solid, scene.eye, (rays[0][crop], rays[1][crop], rays[2][crop]))
        nearer = hit < depth[crop]
        np.copyto(depth[crop], hit, where=nearer)
        surface[crop][nearer] = index
    return depth, surface


def _room(scene: Scene, rays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Depth and index of the side of the room where rays leave it."""
    width, height, length = scene.room
    bounds = ((0.0, width), (-height, 0.0), (0.0, length))
    exits = []
    for (low, high), eye, ray in zip(bounds, scene.eye, rays, strict=True):
        exits.append(np.maximum((low - eye) / ray, (high - eye) / ray))
    depth = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    surface = np.empty(depth.shape, np.uint8)
    for index, panel in enumerate(scene.panels[:SIDES]):
        surface[(exits[panel.axis] == depth) & ((rays[panel.axis] > 0) == panel.far)] = index
    return depth, surface


def _panels(scene: Scene, rays: Arrays, depth: np.ndarray, surface: np.ndarray) -> None:
    """Put the panels that lie on the sides of the room into ``surface``."""
    pixels = {}
    for index, side in enumerate(scene.panels[:SIDES]):
        pixels[side.axis, side.far] = np.flatnonzero(surface == index)
    for index, panel in enumerate(scene.panels[SIDES:], SIDES):
        here = pixels[panel.axis, panel.far]
        a, b = (scene.eye[i] + depth.take(here) * rays[i].take(here) for i in ACROSS[panel.axis])
        inside = abs(a - panel.center[0]) < panel.half[0]
        inside &= abs(b - panel.center[1]) < panel.half[1]
        surface.flat[here[inside]] = index


def _crop(scene: Scene, camera: Camera, solid: Solid) -> tuple[slice, slice]:
    """The rows and columns that a solid can touch, from the corners of its bounding box."""
    hx, hy, hz = solid.half
    columns = []
    rows = []
    for corner in product((-hx, hx), (-hy, hy), (-hz, hz)):
        point = turn(solid.turn, corner, -1)
        x, y, z = (solid.center[i] + point[i] - scene.eye[i] for i in range(3))
        u, v, forward = (axis[0] * x + axis[1] * y + axis[2] * z for axis in scene.axes)
        if forward < BEHIND:
            return slice(None), slice(None)
        columns.append(int(camera.fx * u / forward + camera.cx))
        rows.append(int(camera.fy * v / forward + camera.cy))
    return _span(rows), _span(columns)


def _span(pixels: list[int]) -> slice:
    """From the first to the last of them, with a pixel on either side."""
    return slice(max(min(pixels) - 1, 0), max(max(pixels) + 2, 0))
