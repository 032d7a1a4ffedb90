"""What every kind of task offers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from visionmtl.metrics.base import TaskMetric
from visionmtl.tasks.report import TaskReport
from visionmtl.tasks.results import TaskResult
from visionmtl.types import KINDS


@dataclass(frozen=True)
class Kind:
    """One kind of task, with what a task of the kind has of its own as fields.

    Attributes:
        head: name of the head that a task has unless another is chosen.
        loss: name of the loss that a task has unless another is chosen.
        metric: class of what evaluation reports.
        result: class of a finished prediction: how it is drawn and written.
        report: class of what ``check-data`` says of the labels.
        measured_by_data: whether evaluation takes the options of the data set, not of the model.
    """

    head: ClassVar[str]
    loss: ClassVar[str]
    metric: ClassVar[type[TaskMetric]]
    result: ClassVar[type[TaskResult]]
    report: ClassVar[type[TaskReport]]
    measured_by_data: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name of the kind."""
        return KINDS.name_of(type(self))

    @property
    def max_value(self) -> float | None:
        """The largest value of a prediction; None where it has no bound of its own."""
        return None

    def describe(self) -> str:
        """What a task has of its own, in a few words; empty where it is all said by the kind."""
        return ""

    def united(self, other: Self) -> Self:
        """The kind of a task that several data sets share: all classes, the largest range."""
        return type(self)(
            **{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        )

    def facts(self) -> dict[str, Any]:
        """What constructors of heads, losses and metrics may ask for, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def make_metric(self) -> TaskMetric:
        """The metric of a task."""
        raise NotImplementedError


@dataclass(frozen=True)
class DenseKind(Kind):
    """A kind with a value per pixel.

    Attributes:
        dtype: of the values.
        channels: shape of the value of a pixel in a batch, before (H, W).
    """

    dtype: ClassVar[type[np.generic]] = np.float32
    channels: ClassVar[tuple[int, ...]] = (1,)


def check_classes(classes: Any, kind: str) -> tuple[str, ...]:
    """The names of classes as a tuple.

    Raises:
        ValueError: no list of names, no class, or a repeated one.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a list of names, got {classes!r}")
    if not classes:
        raise ValueError(f"a {kind} task needs at least one class")
    if len(set(classes)) != len(classes):
        repeated = sorted({name for name in classes if list(classes).count(name) > 1})
        raise ValueError(f"repeated classes {repeated}")
    return tuple(classes)
