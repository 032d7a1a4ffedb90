"""Saliency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.report import MaskReport
from visionmtl.tasks.results import SaliencyResult
from visionmtl.types import KINDS


@KINDS.register("saliency")
@dataclass(frozen=True)
class Saliency(DenseKind):
    """Whether a pixel belongs to what draws the eye: 0 or 1."""

    head: ClassVar[str] = "mask"
    loss: ClassVar[str] = "balanced_bce"
    metric = SaliencyMetric
    result = SaliencyResult
    report = MaskReport
    dtype = np.uint8
    channels = ()

    def make_metric(self) -> SaliencyMetric:
        return SaliencyMetric()
