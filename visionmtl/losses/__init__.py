"""Losses: ``(prediction, targets) -> scalar``, masked inside, 0 with a graph where nothing is valid."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from visionmtl.losses.criterion import Criterion
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.losses.detection import FCOSLoss
from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.losses.semseg import CrossEntropyLoss
from visionmtl.types import TaskSpec

__all__ = [
    "LOSSES",
    "AngularNormalsLoss",
    "BerHuLoss",
    "CosineNormalsLoss",
    "Criterion",
    "CrossEntropyLoss",
    "DepthL1Loss",
    "FCOSLoss",
    "SILogLoss",
    "build_loss",
]

LOSSES: dict[str, dict[str, type[nn.Module]]] = {
    "semseg": {"cross_entropy": CrossEntropyLoss},
    "depth": {"l1": DepthL1Loss, "berhu": BerHuLoss, "silog": SILogLoss},
    "normals": {"cosine": CosineNormalsLoss, "angular": AngularNormalsLoss},
    "detection": {"fcos": FCOSLoss},
}
"""Task kind -> name in a config -> class; the first of a kind is its default."""


def build_loss(spec: TaskSpec, /, type: str | None = None, **options: Any) -> nn.Module:
    """The loss of a task.

    Args:
        spec: the task; its number of classes goes to the losses that want it.
        type: a name from ``LOSSES[spec.kind]``; None is the kind's default.
        options: arguments of that class.

    Raises:
        ValueError: an unknown type or option, or an option with a bad value.
    """
    known = LOSSES[spec.kind]
    name = next(iter(known)) if type is None else type
    if name not in known:
        raise ValueError(f"task {spec.name!r}: unknown {spec.kind} loss {name!r}; known: {', '.join(known)}")
    parameters = inspect.signature(known[name]).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    given: dict[str, Any] = {}
    if "num_classes" in accepted:
        accepted.remove("num_classes")
        given["num_classes"] = spec.num_classes
    for option in options:
        if option not in accepted:
            listed = ", ".join(accepted) or "none"
            raise ValueError(f"task {spec.name!r}: loss {name!r} has no option {option!r}; its options: {listed}")
    try:
        return known[name](**given, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"task {spec.name!r}: loss {name!r}: {error}") from error
