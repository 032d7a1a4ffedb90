"""Metrics: one per task, and the numbers over all tasks (validation score, delta_m)."""

from visionmtl.metrics.depth import DepthMetric
from visionmtl.metrics.detection import DetectionMetric
from visionmtl.metrics.multitask import METRICS, DeltaM, MultiTaskMetrics, delta_m, format_table, validation_score
from visionmtl.metrics.normals import NormalsMetric
from visionmtl.metrics.semseg import SemSegMetric

__all__ = [
    "METRICS",
    "DeltaM",
    "DepthMetric",
    "DetectionMetric",
    "MultiTaskMetrics",
    "NormalsMetric",
    "SemSegMetric",
    "delta_m",
    "format_table",
    "validation_score",
]
