"""Normals and texture coordinates of what is seen of a procedural room."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visionmtl.data.rooms.scene import ACROSS, Panel, Scene, Solid
from visionmtl.data.rooms.solids import Arrays, turn


class Patch(NamedTuple):
    """The visible pixels (flat indices) of one panel or solid, and their texture coordinates in
    metres.
    """

    part: Panel | Solid
    here: np.ndarray
    a: np.ndarray
    b: np.ndarray


def surfaces(
    scene: Scene, points: np.ndarray, surface: np.ndarray
) -> tuple[np.ndarray, list[Patch]]:
    """What is seen at points (3, N) on the surfaces (N,).

    Returns:
        World normals float64 (3, N) towards the eye, and the visible patches.
    """
    normals = np.empty_like(points)
    patches = []
    for index in np.flatnonzero(np.bincount(surface)).tolist():
        part = scene.parts[index]
        here = np.flatnonzero(surface == index)
        if isinstance(part, Panel):
            normals[:, here] = 0
            normals[part.axis, here] = -1 if part.far else 1
            across, along = ACROSS[part.axis]
            a = points[across].take(here) - part.center[0]
            b = points[along].take(here) - part.center[1]
        else:
            local = [points[i].take(here) - part.center[i] for i in range(3)]
            normal, a, b = _wrap(part, turn(part.turn, local))
            for axis, values in enumerate(turn(part.turn, normal, -1)):
                normals[axis, here] = values
        patches.append(Patch(part, here, a.astype(np.float32), b.astype(np.float32)))
    return normals, patches


def _wrap(solid: Solid, points: Arrays) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Outward normals and texture coordinates, in metres, at points on a solid; all in its local
    axes.
    """
    x, y, z = points
    hx, hy, hz = solid.half
    if solid.label == "sphere":
        return (x / hx, y / hx, z / hx), _around(x, z, hx), y
    if solid.label == "cylinder":
        radius = np.sqrt(x * x + z * z)
        cap = abs(y) * hx > radius * hy
        nx = np.where(cap, 0, x / radius)
        ny = np.where(cap, np.sign(y), 0)
        nz = np.where(cap, 0, z / radius)
        return (nx, ny, nz), np.where(cap, x, _around(x, z, hx)), np.where(cap, z, y)
    rx = abs(x) / hx
    ry = abs(y) / hy
    rz = abs(z) / hz
    on_y = ry >= np.maximum(rx, rz)
    on_x = ~on_y & (rx >= rz)
    nx = np.where(on_x, np.sign(x), 0.0)
    ny = np.where(on_y, np.sign(y), 0.0)
    nz = np.where(~on_x & ~on_y, np.sign(z), 0.0)
    return (nx, ny, nz), np.where(on_x, z, x), np.where(on_y, z, y)


def _around(x: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """About the arc length around the vertical: the angle in the norm |x| + |z|, which needs no
    arctangent.
    """
    quarter = z / np.maximum(abs(x) + abs(z), 1e-9)
    return np.where(x > 0, quarter, 2 - quarter) * (1.57 * radius)
