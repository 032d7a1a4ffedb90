"""What the packings of NYUv2 share."""

from __future__ import annotations

import re
from pathlib import Path

from visionmtl.data.sets.base import depth_target, read_npy, unit_normals
from visionmtl.types import DenseTarget

MAX_DEPTH = 10.0
"""Metres; the authors clip what the Kinect measured at it (``maxDepth`` in ``camera_params.m`` of
their toolbox).
"""


def in_order(ids: list[str]) -> list[str]:
    """Sorted, numbers by their value: neighbours in the recordings stay neighbours.

    >>> in_order(["train_10", "train_9", "val_1"])
    ['train_9', 'train_10', 'val_1']
    """
    pieces = {
        sample_id: re.split(r"([0-9]+)", sample_id) for sample_id in ids
    }  # text, number, text, ...
    keys = {
        sample_id: [int(piece) if i % 2 else piece for i, piece in enumerate(parts)]
        for sample_id, parts in pieces.items()
    }
    return sorted(ids, key=lambda sample_id: (keys[sample_id], sample_id))


def read_depth_npy(path: Path) -> DenseTarget:
    """Depth from an array (H, W) or (H, W, 1) of metres; 0 and what is beyond ``MAX_DEPTH`` is
    invalid.

    Raises:
        ValueError: missing or broken file, another shape.
    """
    metres = read_npy(path, "depth (H, W) or (H, W, 1)", ndim=(2, 3))
    if metres.ndim == 3:
        if metres.shape[2] != 1:
            raise ValueError(f"{path}: expected depth (H, W) or (H, W, 1), got {metres.shape}")
        metres = metres[..., 0]
    return depth_target(metres, MAX_DEPTH)


def read_normals_npy(path: Path, frame: str) -> DenseTarget:
    """Normals from an array (H, W, 3) of -1..1; (0, 0, 0) is invalid.

    Raises:
        ValueError: missing or broken file, another shape.
    """
    vectors = read_npy(path, "normals (H, W, 3)", ndim=3)
    if vectors.shape[2] != 3:
        raise ValueError(f"{path}: expected normals (H, W, 3), got {vectors.shape}")
    return unit_normals(vectors, frame)
