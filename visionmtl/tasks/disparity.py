"""Stereo disparity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionmtl._options import Positive
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.report import DepthReport
from visionmtl.tasks.results import DisparityResult
from visionmtl.types import KINDS


@KINDS.register("disparity")
@dataclass(frozen=True)
class Disparity(DenseKind):
    """Stereo disparity, proportional to the inverse of depth: larger is nearer, resizing an image
    leaves it.

    Args:
        max_disparity: in the unit of the data set, pixels as a rule; predictions are bounded by it
            and targets beyond it are invalid.
    """

    head: ClassVar[str] = "disparity"
    loss: ClassVar[str] = "l1"
    metric = DisparityMetric
    result = DisparityResult
    report = DepthReport
    measured_by_data = True

    max_disparity: Positive

    @property
    def max_value(self) -> float:
        return self.max_disparity

    def describe(self) -> str:
        return f"0 to {self.max_disparity:g}"

    def make_metric(self) -> DisparityMetric:
        return DisparityMetric(self.max_disparity)
