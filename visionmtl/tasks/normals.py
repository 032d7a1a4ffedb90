"""Surface normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionmtl.metrics.normals import NormalsMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.report import NormalsReport
from visionmtl.tasks.results import NormalsResult
from visionmtl.types import KINDS


@KINDS.register("normals")
@dataclass(frozen=True)
class Normals(DenseKind):
    """Surface normals: unit vectors in the camera frame (x right, y down, z forward), facing the
    camera.
    """

    head: ClassVar[str] = "normals"
    loss: ClassVar[str] = "cosine"
    metric = NormalsMetric
    result = NormalsResult
    report = NormalsReport
    channels = (3,)

    def make_metric(self) -> NormalsMetric:
        return NormalsMetric()
