"""The look of the procedural rooms: textures, light, shadows and the lens.

The arithmetic keeps to the rule of ``raycast``: only operations that every machine rounds the same
way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visionmtl.data.rooms.raycast import Panel, Scene, View, entry

LATTICE = 32
"""Cells per side, a power of two, of the periodic table of random numbers behind the noise and
plank textures.
"""
Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def photograph(scene: Scene, view: View, rng: np.random.Generator) -> np.ndarray:
    """The picture of a view, uint8 (H, W, 3) RGB; ``rng`` gives its noise, nothing else."""
    with np.errstate(divide="ignore", invalid="ignore"):  # shadow rays parallel to a face
        light = _light(scene, view, _paint(scene, view))
    return _develop(light.reshape(3, *view.depth.shape), rng)


def _wave(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A square wave in -1..1 that changes at every integer, averaged over ``width``."""
    triangle = abs(x - 2 * np.floor(x * 0.5) - 1) - 0.5
    wave: np.ndarray = np.clip(2 * triangle / width, -1, 1)
    return wave


def _solid(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    return np.zeros_like(a)


def _checker(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    mix: np.ndarray = 0.5 + 0.5 * _wave(a, width) * _wave(b, width)
    return mix


def _stripes(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * _wave(a, width)


def _bands(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * _wave(b, width)


def _noise(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Value noise of two octaves: random values at the corners of a grid, smoothly interpolated."""
    return 0.65 * _octave(a, b, lattice) + 0.35 * _octave(2.7 * a, 2.7 * b, lattice)


def _octave(a: np.ndarray, b: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    cell_a, cell_b = np.floor(a), np.floor(b)
    s, t = a - cell_a, b - cell_b
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    i, j = cell_a.astype(np.int64), cell_b.astype(np.int64)
    near, far = (
        lattice.take(_at(i, k)) * (1 - s) + lattice.take(_at(i + 1, k)) * s for k in (j, j + 1)
    )
    mean: np.ndarray = near * (1 - t) + far * t
    return mean


def _at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Flat index into the lattice, which repeats for ever."""
    return (row & (LATTICE - 1)) * LATTICE + (column & (LATTICE - 1))


def _planks(a: np.ndarray, b: np.ndarray, width: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Rows of boards, five times as long as wide, each of its own tint, with dark joints."""
    row = np.floor(b)
    i = row.astype(np.int64)
    along = a * 0.2 + 3 * lattice.take(_at(i, i))
    column = np.floor(along)
    tint = lattice.take(_at(i, column.astype(np.int64)))
    joint = np.minimum(b - row, 5 * (along - column))
    line = np.clip((0.06 - joint) / width + 0.5, 0, 1) * np.minimum(0.06 / width, 1)
    mix: np.ndarray = 0.55 * tint * (1 - line) + line
    return mix


PATTERNS: dict[str, Pattern] = {
    "solid": _solid,
    "checker": _checker,
    "stripes": _stripes,
    "bands": _bands,
    "noise": _noise,
    "planks": _planks,
}
"""Name -> (a, b, width of a pixel, lattice) -> share of the second colour in 0..1; lengths are in
cells.
"""


def _paint(scene: Scene, view: View) -> np.ndarray:
    """Red, green, blue, gloss and glow of the surfaces, float32 (5, N)."""
    footprint = _footprint(view)
    paint = np.empty((5, footprint.size), np.float32)
    for part, here, a, b in view.patches:
        texture, width = part.texture, footprint.take(here)
        scale = 1 / texture.cell
        mix = PATTERNS[texture.kind](
            a * scale + texture.phase, b * scale + texture.phase, width * scale, scene.lattice
        )
        values = [p + (q - p) * mix for p, q in zip(*texture.colors, strict=True)]
        glow: float | np.ndarray = 0.0
        if isinstance(part, Panel) and part.border:
            edge = np.minimum(part.half[0] - abs(a), part.half[1] - abs(b))
            if part.bars:
                edge = np.minimum(edge, np.minimum(abs(a), abs(b)) + 0.5 * part.border)
            framed = np.clip((part.border - edge) / width + 0.5, 0, 1)
            values = [v + (f - v) * framed for v, f in zip(values, part.frame, strict=True)]
            glow = part.glow * (1 - framed)
        for channel, value in zip(paint, (*values, texture.gloss, glow), strict=True):
            channel[here] = value
    return paint


def _footprint(view: View) -> np.ndarray:
    """Size in metres of what a pixel sees, float32 (N,): the geometric mean of its two extents on
    the surface.
    """
    facing = -_dot(view.directions, view.world_normals) / np.sqrt(
        _dot(view.directions, view.directions)
    )
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
    normals, rays = view.world_normals, view.directions
    to_lamp = np.array(scene.light, np.float32)[:, None] - view.points
    square = _dot(to_lamp, to_lamp)
    to_lamp /= np.sqrt(square)
    direct = np.maximum(_dot(normals, to_lamp), 0) / (1 + 0.3 * square)
    from_lamp = view.points - np.array(scene.light, np.float32)[:, None]
    soft = _openness(scene, view)
    for solid in scene.solids:
        np.copyto(
            direct,
            0,
            where=entry(solid, scene.light, (from_lamp[0], from_lamp[1], from_lamp[2])) < 0.999,
        )
    half = to_lamp - rays / np.sqrt(_dot(rays, rays))
    shine = _dot(normals, half) ** 2 / _dot(half, half)
    for _ in range(4):
        shine *= shine
    shine *= paint[3] * direct
    tints = zip(paint[:3], scene.ambient, scene.lamp, strict=True)
    return np.stack(
        [
            color * (dim * soft + lamp * direct + paint[4]) + lamp * shine
            for color, dim, lamp in tints
        ]
    )


def _openness(scene: Scene, view: View) -> np.ndarray:
    """Share of the soft light that reaches a point, float32 (N,): less in the corners of the room
    and beside solids.

    A solid counts as a sphere of its mean radius r; it takes (n . c) r^2 / |c|^3, with c from the
    point to its centre.
    """
    points, normals = view.points, view.world_normals
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
        before, after = light.swapaxes(0, axis)[:-1], light.swapaxes(0, axis)[1:]
        step = 0.14 * (after - before)
        before += step
        after -= step
    levels = 255 * np.sqrt(1.5 * light / (light + 0.5))
    levels += rng.integers(-128, 128, levels.shape, np.int8).astype(np.float32) * (3 / 128) + 0.5
    return np.ascontiguousarray(
        np.clip(levels, 0, 255, out=levels).astype(np.uint8).transpose(1, 2, 0)
    )
