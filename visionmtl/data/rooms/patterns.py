"""The textures of the procedural rooms.

The arithmetic keeps to the rule of ``solids``: only operations that every machine rounds the same
way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visionmtl.data.rooms.scene import LATTICE

Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


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
    cell_a = np.floor(a)
    cell_b = np.floor(b)
    s = _smooth(a - cell_a)
    t = _smooth(b - cell_b)
    i = cell_a.astype(np.int64)
    j = cell_b.astype(np.int64)
    near = lattice.take(_at(i, j)) * (1 - s) + lattice.take(_at(i + 1, j)) * s
    far = lattice.take(_at(i, j + 1)) * (1 - s) + lattice.take(_at(i + 1, j + 1)) * s
    mean: np.ndarray = near * (1 - t) + far * t
    return mean


def _smooth(share: np.ndarray) -> np.ndarray:
    """0..1 with slope 0 at both ends."""
    smooth: np.ndarray = share * share * (3 - 2 * share)
    return smooth


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
"""Name -> (a, b, width of a pixel, lattice) -> fraction of the second colour in 0..1.

Lengths are in cells.
"""
