"""Kinds of tasks: one file each, with everything that depends on what a task is.

>>> TaskSpec.depth(max_depth=80.0)
TaskSpec(name='depth', kind=Depth(max_depth=80.0))
"""

from __future__ import annotations

from visionmtl.tasks.base import Kind
from visionmtl.tasks.depth import Depth
from visionmtl.tasks.detection import Detection
from visionmtl.tasks.disparity import Disparity
from visionmtl.tasks.edge import Edge
from visionmtl.tasks.normals import Normals
from visionmtl.tasks.saliency import Saliency
from visionmtl.tasks.semseg import SemSeg
from visionmtl.types import KINDS, TaskSpec

__all__ = [
    "KINDS",
    "Depth",
    "Detection",
    "Disparity",
    "Edge",
    "Kind",
    "Normals",
    "Saliency",
    "SemSeg",
    "TaskSpec",
]
