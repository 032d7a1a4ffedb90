"""Kinds of tasks: one file each, with everything that depends on what a task is.

>>> TaskSpec.depth(max_depth=80.0)
TaskSpec(name='depth', kind=Depth(max_depth=80.0))

Which files and codes its labels have, what of the geometry they follow, how a prediction is
finished, drawn and written: all is asked of the kind.

>>> TaskSpec.depth().kind.codec.for_labels(TaskSpec.depth().kind).options()
{'unit': 'metre', 'scale': 0.001, 'invalid_value': 0.0}
"""

from __future__ import annotations

from visionmtl.tasks.base import DenseKind, Kind
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.depth import Depth
from visionmtl.tasks.detection import Detection
from visionmtl.tasks.disparity import Disparity
from visionmtl.tasks.edge import Edge
from visionmtl.tasks.normals import Normals
from visionmtl.tasks.report import DenseReport, TaskReport
from visionmtl.tasks.result import DenseResult, TaskResult
from visionmtl.tasks.saliency import Saliency
from visionmtl.tasks.semseg import SemSeg
from visionmtl.types import KINDS, TaskSpec

__all__ = [
    "KINDS",
    "Codec",
    "DenseKind",
    "DenseReport",
    "DenseResult",
    "Depth",
    "Detection",
    "Disparity",
    "Edge",
    "Kind",
    "Normals",
    "Saliency",
    "SemSeg",
    "TaskReport",
    "TaskResult",
    "TaskSpec",
]
