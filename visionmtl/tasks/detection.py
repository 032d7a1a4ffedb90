"""Object detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from visionmtl.metrics.detection import DetectionMetric
from visionmtl.tasks.base import Kind, check_classes
from visionmtl.tasks.report import BoxReport
from visionmtl.tasks.results import DetectionResult
from visionmtl.types import KINDS


@KINDS.register("detection")
@dataclass(frozen=True)
class Detection(Kind):
    """2-D object detection: axis-aligned boxes, one of ``classes`` each.

    Raises:
        ValueError: missing or repeated classes.
    """

    head: ClassVar[str] = "fcos"
    loss: ClassVar[str] = "fcos"
    metric = DetectionMetric
    result = DetectionResult
    report = BoxReport

    classes: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_classes(self.classes, "detection"))

    def describe(self) -> str:
        return f"{len(self.classes)} classes"

    def united(self, other: Self) -> Self:
        return type(self)(tuple(dict.fromkeys((*self.classes, *other.classes))))

    def facts(self) -> dict[str, Any]:
        return {"classes": self.classes, "num_classes": len(self.classes)}

    def make_metric(self) -> DetectionMetric:
        return DetectionMetric(self.classes)
