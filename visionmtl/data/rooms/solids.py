"""Where rays meet the solids of a procedural room.

Everything in it is written with + - * / sqrt and floor, which IEEE 754 rounds the same way on every
machine: no powers, no trigonometry, no matrix products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from visionmtl.data.rooms.scene import Solid, Vector

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One array per axis x, y, z."""

_ROUNDS: dict[str, tuple[tuple[int, ...], ...]] = {
    "box": (),
    "sphere": ((0, 1, 2),),
    "cylinder": ((0, 2),),
}
"""Label -> the axes of each sphere (three) or endless cylinder (two) that bounds a solid."""

_SLABS: dict[str, tuple[int, ...]] = {"box": (0, 1, 2), "sphere": (), "cylinder": (1,)}
"""Label -> the axis of each pair of parallel planes that bounds a solid."""


def turn(by: tuple[float, float], xyz: Any, sense: int = 1) -> tuple[Any, Any, Any]:
    """World to local axes of a solid, or back with ``sense`` -1; numbers or arrays."""
    x, y, z = xyz
    cos = by[0]
    sin = sense * by[1]
    return cos * x - sin * z, y, sin * x + cos * z


def entry(solid: Solid, origin: Vector, direction: Arrays) -> np.ndarray:
    """Ray parameter where rays from ``origin`` enter a solid; inf where they miss it or start
    inside.

    Every solid is an intersection of slabs and rounds, so a ray is inside between the last entry
    and the first exit.
    """
    x, y, z = origin
    cx, cy, cz = solid.center
    start = turn(solid.turn, (x - cx, y - cy, z - cz))
    ray = turn(solid.turn, direction)
    cuts = [_round(start, ray, solid.half[0], axes) for axes in _ROUNDS[solid.label]]
    cuts += [_slab(start[axis], ray[axis], solid.half[axis]) for axis in _SLABS[solid.label]]
    near, far = cuts[0]
    for enter, leave in cuts[1:]:
        near = np.maximum(near, enter)
        far = np.minimum(far, leave)
    return np.where((near < far) & (near > 0), near, np.inf)


def _slab(start: float, ray: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Where rays are between two parallel planes."""
    inverse = 1 / ray
    middle = -start * inverse
    reach = half * abs(inverse)
    return middle - reach, middle + reach


def _round(
    start: Vector, ray: Arrays, radius: float, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays are inside a sphere (three axes) or an endless cylinder (two axes); never where
    the two are equal.
    """
    square = ray[axes[0]] * ray[axes[0]]
    along = start[axes[0]] * ray[axes[0]]
    distance = start[axes[0]] * start[axes[0]]
    for axis in axes[1:]:
        square = square + ray[axis] * ray[axis]
        along = along + start[axis] * ray[axis]
        distance = distance + start[axis] * start[axis]
    root = np.sqrt(np.maximum(along * along - square * (distance - radius * radius), 0))
    return (-along - root) / square, (-along + root) / square
