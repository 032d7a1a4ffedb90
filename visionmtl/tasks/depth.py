"""Depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionmtl._options import Positive
from visionmtl.metrics.depth import DepthMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.report import DepthReport
from visionmtl.tasks.results import DepthResult
from visionmtl.types import KINDS


@KINDS.register("depth")
@dataclass(frozen=True)
class Depth(DenseKind):
    """Planar depth along the optical axis, in metres.

    Args:
        max_depth: metres; predictions are bounded by it and targets beyond it are invalid.
    """

    head: ClassVar[str] = "depth"
    loss: ClassVar[str] = "l1"
    metric = DepthMetric
    result = DepthResult
    report = DepthReport
    measured_by_data = True

    max_depth: Positive = 10.0

    @property
    def max_value(self) -> float:
        return self.max_depth

    def describe(self) -> str:
        return f"0 to {self.max_depth:g} m"

    def make_metric(self) -> DepthMetric:
        return DepthMetric(self.max_depth)
