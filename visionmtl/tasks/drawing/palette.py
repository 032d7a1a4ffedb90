"""Colours of classes."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

_FIRST = np.array([55, -5, -45])
"""CIE Lab of the colour that the palette starts near: a calm blue."""


@lru_cache
def palette(num_classes: int) -> np.ndarray:
    """Distinct colours, uint8 (num_classes, 3): each is the candidate farthest, in CIE Lab, from
    all before it.

    The first colours do not depend on ``num_classes``. The array is shared and read-only.
    """
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    lab = cv2.cvtColor(cube.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[:, 0]
    lightness = lab[:, 0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    neither_dull_nor_glaring = (lightness > 38) & (lightness < 88) & (chroma > 22) & (chroma < 75)
    colours = cube[neither_dull_nor_glaring, 0]
    lab = lab[neither_dull_nor_glaring]
    chosen = [int(np.linalg.norm(lab - _FIRST, axis=1).argmin())]
    nearest = np.full(len(lab), np.inf)
    while len(chosen) < num_classes:
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    out: np.ndarray = colours[chosen[:num_classes]]
    out.flags.writeable = False
    return out
