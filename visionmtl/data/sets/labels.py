"""Targets from the numbers that packings store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from visionmtl.types import DenseTarget

Frame = Literal["y_down", "y_up", "y_down_z_back", "x_left", "z_up"]
"""The axes of stored normals: ``y_down`` (x right, y down, z forward), or with z towards the
viewer: ``y_up`` (x right, y up), ``y_down_z_back`` (x right, y down), ``x_left`` (x left, y up); or
``z_up`` (x right, y forward, z up).
"""

_FRAMES: dict[Frame, tuple[list[int], tuple[int, int, int]]] = {
    "y_down": ([0, 1, 2], (1, 1, 1)),
    "y_up": ([0, 1, 2], (1, -1, -1)),
    "y_down_z_back": ([0, 1, 2], (1, 1, -1)),
    "x_left": ([0, 1, 2], (-1, -1, -1)),
    "z_up": ([0, 2, 1], (1, -1, 1)),
}
"""Frame -> which of its components are x, y and z of the camera frame, and their signs."""


def unit_normals(vectors: np.ndarray, frame: Frame) -> DenseTarget:
    """Normals float32 (H, W, 3) in the camera frame (x right, y down, z forward) from those of a
    file.

    Vectors shorter than 0.5 or longer than 1.5, and those that are not finite, are invalid.

    Args:
        vectors: (H, W, 3), each component in -1..1.
        frame: their axes.
    """
    order, signs = _FRAMES[frame]
    value = vectors[..., order].astype(np.float32) * np.array(signs, np.float32)
    length = np.sqrt(np.square(value).sum(axis=2))
    valid = (length >= 0.5) & (length <= 1.5)  # False for nan
    value = np.where(valid[..., None], value / np.where(valid, length, 1)[..., None], np.float32(0))
    return DenseTarget(value, valid)


def decode_normals(image: np.ndarray, frame: Frame) -> DenseTarget:
    """Normals from an image uint8 (H, W, 3), 2 x / 255 - 1."""
    return unit_normals(image * np.float32(2 / 255) - 1, frame)


def depth_target(metres: np.ndarray, max_value: float) -> DenseTarget:
    """Depth or disparity float32 (H, W): valid where finite, above 0 and at most ``max_value``."""
    valid = np.isfinite(metres) & (metres > 0) & (metres <= max_value)
    return DenseTarget(np.where(valid, metres, 0).astype(np.float32), valid)


def labels_from(ids: np.ndarray, table: np.ndarray, path: Path | str) -> DenseTarget:
    """Class ids from the numbers that a file holds.

    Args:
        ids: integers (H, W).
        table: stored number -> class id, -1 where it means "no label", -2 where the number must not
            occur.
        path: of the file, for the message.

    Raises:
        ValueError: a number outside the table.
    """
    inside = (ids >= 0) & (ids < len(table))
    found = np.where(inside, table[np.where(inside, ids, 0)], -2)
    if (found == -2).any():
        wrong = ", ".join(map(str, np.unique(ids[found == -2])[:10]))
        raise ValueError(f"{path}: labels {wrong} are none of this packing's")
    valid = found >= 0
    return DenseTarget(np.where(valid, found, 0).astype(np.uint8), valid)


def all_valid(value: np.ndarray) -> DenseTarget:
    """A target uint8 (H, W) without invalid pixels."""
    return DenseTarget(value.astype(np.uint8), np.ones(value.shape, bool))
