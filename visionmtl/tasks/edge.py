"""Edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from visionmtl.metrics.edge import EdgeMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.report import MaskReport
from visionmtl.tasks.results import EdgeResult
from visionmtl.types import KINDS


@KINDS.register("edge")
@dataclass(frozen=True)
class Edge(DenseKind):
    """Whether a pixel lies on a boundary between regions: 0 or 1.

    Args:
        tolerance: how far off a predicted line may be, as a share of the image's diagonal. Usual is
            0.0075, on NYUv2 0.011.
    """

    head: ClassVar[str] = "mask"
    loss: ClassVar[str] = "edge_bce"
    metric = EdgeMetric
    result = EdgeResult
    report = MaskReport
    dtype = np.uint8
    channels = ()
    measured_by_data = True

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.0075

    def make_metric(self) -> EdgeMetric:
        return EdgeMetric(self.tolerance)
