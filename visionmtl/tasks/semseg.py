"""Semantic segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from visionmtl.metrics.semseg import SemSegMetric
from visionmtl.tasks.base import DenseKind, check_classes
from visionmtl.tasks.report import SemSegReport
from visionmtl.tasks.results import SemSegResult
from visionmtl.types import KINDS


@KINDS.register("semseg")
@dataclass(frozen=True)
class SemSeg(DenseKind):
    """Semantic segmentation: one of ``classes`` per pixel, their position is the class id.

    Raises:
        ValueError: missing, repeated or over 256 classes.
    """

    head: ClassVar[str] = "semseg"
    loss: ClassVar[str] = "cross_entropy"
    metric = SemSegMetric
    result = SemSegResult
    report = SemSegReport
    dtype = np.uint8
    channels = ()

    classes: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_classes(self.classes, "semseg"))
        if len(self.classes) > 256:
            raise ValueError(f"at most 256 classes, ids are 8-bit; got {len(self.classes)}")

    def describe(self) -> str:
        return f"{len(self.classes)} classes"

    def united(self, other: Self) -> Self:
        return type(self)(tuple(dict.fromkeys((*self.classes, *other.classes))))

    def facts(self) -> dict[str, Any]:
        return {"classes": self.classes, "num_classes": len(self.classes)}

    def make_metric(self) -> SemSegMetric:
        return SemSegMetric(self.classes)
