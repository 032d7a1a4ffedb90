"""Metrics: one class per kind of task, and the numbers over all tasks.

``delta_m`` says whether training tasks together was worth it, ``validation_score`` which checkpoint
is the best.

>>> from visionmtl.tasks import TaskSpec
>>> task = TaskSpec.saliency()
>>> single_task = {"saliency": {"max_f": 80.0, "miou": 70.0}}
>>> delta_m({"saliency": {"max_f": 82.0, "miou": 70.0}}, single_task, [task]).headline
2.5
"""

from visionmtl.metrics.base import TaskMetric
from visionmtl.metrics.depth import DepthMetric
from visionmtl.metrics.detection import DetectionMetric
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.metrics.edge import EdgeMetric
from visionmtl.metrics.gain import DeltaM, delta_m
from visionmtl.metrics.multitask import MultiTaskMetrics, Results
from visionmtl.metrics.normals import NormalsMetric
from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.metrics.score import validation_score
from visionmtl.metrics.semseg import SemSegMetric
from visionmtl.metrics.table import format_table

__all__ = [
    "DeltaM",
    "DepthMetric",
    "DetectionMetric",
    "DisparityMetric",
    "EdgeMetric",
    "MultiTaskMetrics",
    "NormalsMetric",
    "Results",
    "SaliencyMetric",
    "SemSegMetric",
    "TaskMetric",
    "delta_m",
    "format_table",
    "validation_score",
]
