"""What the packings of NYUv2 share."""

from __future__ import annotations

from visionmtl.data.sets.base import facts
from visionmtl.types import TaskSpec

MAX_DEPTH = 10.0
"""Metres; the authors clip what the Kinect measured at it (``maxDepth`` in ``camera_params.m`` of
their toolbox).
"""


def nyuv2_tasks(num_classes: int) -> list[TaskSpec]:
    """Segmentation into 13 or 40 classes, depth and normals."""
    classes = facts("nyuv2")[f"classes{num_classes}"]
    return [TaskSpec.semseg(classes), TaskSpec.depth(MAX_DEPTH), TaskSpec.normals()]
