"""The look of the procedural rooms: paint, light, shadows and the lens.

The arithmetic keeps to the rule of ``solids``: only operations that every machine rounds the same
way.
"""

from __future__ import annotations

import numpy as np

from visionmtl.data.rooms.patterns import PATTERNS
from visionmtl.data.rooms.raycast import View
from visionmtl.data.rooms.scene import Panel, Scene, Vector
from visionmtl.data.rooms.solids import entry
from visionmtl.data.rooms.surfaces import Patch


def photograph(scene: Scene, view: View, rng: np.random.Generator) -> np.ndarray:
    """The picture of a view, uint8 (H, W, 3) RGB; ``rng`` gives its noise, nothing else."""
    with np.errstate(divide="ignore", invalid="ignore"):  # shadow rays parallel to a face
        light = _light(scene, view, _paint(scene, view))
    return _develop(light.reshape(3, *view.depth.shape), rng)


def _paint(scene: Scene, view: View) -> np.ndarray:
    """Red, green, blue, gloss and glow of the surfaces, float32 (5, N)."""
    footprint = _footprint(view)
    paint = np.empty((5, footprint.size), np.float32)
    for patch in view.patches:
        width = footprint.take(patch.here)
        texture = patch.part.texture
        scale = 1 / texture.cell
        a = patch.a * scale + texture.phase
        b = patch.b * scale + texture.phase
        mix = PATTERNS[texture.kind](a, b, width * scale, scene.lattice)
        values = _mixed(texture.colors, mix)
        glow: float | np.ndarray = 0.0
        if isinstance(patch.part, Panel) and patch.part.border:
            framed = _framed(patch.part, patch, width)
            values = [v + (f - v) * framed for v, f in zip(values, patch.part.frame, strict=True)]
            glow = patch.part.glow * (1 - framed)
        for channel, value in zip(paint, (*values, texture.gloss, glow), strict=True):
            channel[patch.here] = value
    return paint


def _mixed(colors: tuple[Vector, Vector], mix: np.ndarray) -> list[np.ndarray]:
    """Red, green and blue between two colours."""
    return [p + (q - p) * mix for p, q in zip(*colors, strict=True)]


def _framed(panel: Panel, patch: Patch, width: np.ndarray) -> np.ndarray:
    """How much of each pixel the frame of a panel covers, 0..1."""
    edge = np.minimum(panel.half[0] - abs(patch.a), panel.half[1] - abs(patch.b))
    if panel.bars:
        edge = np.minimum(edge, np.minimum(abs(patch.a), abs(patch.b)) + 0.5 * panel.border)
    covered: np.ndarray = np.clip((panel.border - edge) / width + 0.5, 0, 1)
    return covered


def _footprint(view: View) -> np.ndarray:
    """Size in metres of what a pixel sees, float32 (N,): the geometric mean of its two extents on
    the surface.
    """
    lengths = np.sqrt(_dot(view.directions, view.directions))
    facing = -_dot(view.directions, view.world_normals) / lengths
    size: np.ndarray = view.depth.ravel() / np.sqrt(np.maximum(facing, 0.02)) * (1 / view.camera.fx)
    return size


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products of two (3, N) arrays, (N,), without BLAS."""
    out: np.ndarray = a[0] * b[0]
    out += a[1] * b[1]
    out += a[2] * b[2]
    return out


def _light(scene: Scene, view: View, paint: np.ndarray) -> np.ndarray:
    """Linear light float32 (3, N): one lamp with shadows, soft light that does not reach corners,
    and a highlight.
    """
    normals = view.world_normals
    rays = view.directions
    lamp = np.array(scene.light, np.float32)[:, None]
    to_lamp = lamp - view.points
    square = _dot(to_lamp, to_lamp)
    to_lamp /= np.sqrt(square)
    direct = np.maximum(_dot(normals, to_lamp), 0) / (1 + 0.3 * square)
    x, y, z = view.points - lamp
    for solid in scene.solids:
        shadowed = entry(solid, scene.light, (x, y, z)) < 0.999
        np.copyto(direct, 0, where=shadowed)
    soft = _openness(scene, view)
    half = to_lamp - rays / np.sqrt(_dot(rays, rays))
    shine = _dot(normals, half) ** 2 / _dot(half, half)
    for _ in range(4):
        shine *= shine
    shine *= paint[3] * direct
    light = []
    for color, dim, bright in zip(paint[:3], scene.ambient, scene.lamp, strict=True):
        light.append(color * (dim * soft + bright * direct + paint[4]) + bright * shine)
    return np.stack(light)


def _openness(scene: Scene, view: View) -> np.ndarray:
    """Fraction of the soft light that reaches a point, float32 (N,): less in corners and beside
    solids.

    A solid counts as a sphere of its mean radius r; it takes (n . c) r^2 / |c|^3, with c from the
    point to its centre.
    """
    points = view.points
    normals = view.world_normals
    share: np.ndarray = 1 - 0.12 * normals[1]  # the floor gets more of it than the ceiling
    for axis, (size, low) in enumerate(zip(scene.room, (0, -scene.room[1], 0), strict=True)):
        gap = 0.5 * size - abs(points[axis] - (low + 0.5 * size)) + 4 * abs(normals[axis])
        share *= 1 - 0.09 / (gap + 0.12)
    for solid in scene.solids:
        reach = np.array(solid.center, np.float32)[:, None] - points
        square = _dot(reach, reach)
        radius = sum(solid.half) / 3
        taken = _dot(normals, reach) * (0.8 * radius * radius) / (square * np.sqrt(square))
        share *= 1 - np.clip(taken, 0, 0.8, out=taken)
    return share


def _develop(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear light (3, H, W) to uint8 (H, W, 3): a little blur (the lens), soft clipping, gamma 2,
    noise.
    """
    for axis in (1, 2):
        before = light.swapaxes(0, axis)[:-1]
        after = light.swapaxes(0, axis)[1:]
        spread = 0.14 * (after - before)
        before += spread
        after -= spread
    levels = 255 * np.sqrt(1.5 * light / (light + 0.5))
    levels += rng.integers(-128, 128, levels.shape, np.int8).astype(np.float32) * (3 / 128) + 0.5
    np.clip(levels, 0, 255, out=levels)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
