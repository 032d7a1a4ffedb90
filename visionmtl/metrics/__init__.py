"""Metrics: one per task; ``visionmtl.metrics.multitask`` has the numbers over all of them (score,
delta_m).
"""

from visionmtl.metrics.base import TaskMetric
from visionmtl.metrics.depth import DepthMetric
from visionmtl.metrics.detection import DetectionMetric
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.metrics.edge import EdgeMetric
from visionmtl.metrics.normals import NormalsMetric
from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.metrics.semseg import SemSegMetric

__all__ = [
    "DepthMetric",
    "DetectionMetric",
    "DisparityMetric",
    "EdgeMetric",
    "NormalsMetric",
    "SaliencyMetric",
    "SemSegMetric",
    "TaskMetric",
]
