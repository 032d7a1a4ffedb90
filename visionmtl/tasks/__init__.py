"""The one table of task kinds: what serves segmentation, depth, normals, detection, disparity,
saliency and edges.

A new kind is a head, a loss, a metric and a result, and one line here. What comes before the
network knows the kinds by
itself: ``TaskSpec`` (what a task is), ``visionmtl.data`` (how labels are read, stacked and
    checked).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionmtl.losses.base import TaskLoss
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.losses.detection import FCOSLoss
from visionmtl.losses.mask import BalancedBCELoss, EdgeBCELoss
from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.losses.semseg import CrossEntropyLoss
from visionmtl.metrics.base import TaskMetric
from visionmtl.metrics.depth import DepthMetric
from visionmtl.metrics.detection import DetectionMetric
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.metrics.edge import EdgeMetric
from visionmtl.metrics.normals import NormalsMetric
from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.metrics.semseg import SemSegMetric
from visionmtl.models.heads.base import Head
from visionmtl.models.heads.depth import DepthHead
from visionmtl.models.heads.detection import DetectionHead
from visionmtl.models.heads.disparity import DisparityHead
from visionmtl.models.heads.mask import MaskHead
from visionmtl.models.heads.normals import NormalsHead
from visionmtl.models.heads.semseg import SemSegHead
from visionmtl.tasks.results import (
    DepthResult,
    DetectionResult,
    DisparityResult,
    EdgeResult,
    NormalsResult,
    SaliencyResult,
    SemSegResult,
    TaskResult,
)
from visionmtl.types import TaskSpec


@dataclass(frozen=True)
class TaskKind:
    """The parts that serve one kind of task.

    Attributes:
        head: pyramid -> prediction.
        losses: name in a config -> loss; the first is the default.
        metric: what evaluation reports.
        result: how a prediction is finished, drawn and written.
    """

    head: type[Head]
    losses: Mapping[str, type[TaskLoss]]
    metric: type[TaskMetric]
    result: type[TaskResult]


TASKS: dict[str, TaskKind] = {
    "semseg": TaskKind(SemSegHead, {"cross_entropy": CrossEntropyLoss}, SemSegMetric, SemSegResult),
    "depth": TaskKind(
        DepthHead,
        {"l1": DepthL1Loss, "berhu": BerHuLoss, "silog": SILogLoss},
        DepthMetric,
        DepthResult,
    ),
    "normals": TaskKind(
        NormalsHead,
        {"cosine": CosineNormalsLoss, "angular": AngularNormalsLoss},
        NormalsMetric,
        NormalsResult,
    ),
    "detection": TaskKind(DetectionHead, {"fcos": FCOSLoss}, DetectionMetric, DetectionResult),
    "disparity": TaskKind(DisparityHead, {"l1": DepthL1Loss}, DisparityMetric, DisparityResult),
    "saliency": TaskKind(
        MaskHead, {"balanced_bce": BalancedBCELoss}, SaliencyMetric, SaliencyResult
    ),
    "edge": TaskKind(MaskHead, {"balanced_bce": EdgeBCELoss}, EdgeMetric, EdgeResult),
}


def build_loss(spec: TaskSpec, /, type: str | None = None, **options: Any) -> TaskLoss:
    """The loss of a task.

    Args:
        spec: the task; its number of classes goes to the losses that want it.
        type: a name from ``TASKS[spec.kind].losses``; None is the kind's default.
        options: arguments of that class.

    Raises:
        ValueError: an unknown type or option, or an option with a bad value.
    """
    known = TASKS[spec.kind].losses
    name = next(iter(known)) if type is None else type
    if name not in known:
        raise ValueError(
            f"task {spec.name!r}: unknown {spec.kind} loss {name!r}; known: {', '.join(known)}"
        )
    parameters = inspect.signature(known[name]).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    given: dict[str, Any] = {}
    if "num_classes" in accepted:
        accepted.remove("num_classes")
        given["num_classes"] = spec.num_classes
    for option in options:
        if option not in accepted:
            listed = ", ".join(accepted) or "none"
            raise ValueError(
                f"task {spec.name!r}: loss {name!r} has no option {option!r}; its options: {listed}"
            )
    try:
        return known[name](**given, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"task {spec.name!r}: loss {name!r}: {error}") from error
