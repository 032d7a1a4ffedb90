"""What every kind of task offers.

A kind of a user's own needs a head, a loss and a metric; with the defaults of ``DenseKind`` it is
then stored, transformed, batched, checked, drawn and saved like the others::

    @KINDS.register("albedo")
    @dataclass(frozen=True)
    class Albedo(DenseKind):
        head = "albedo"
        loss = "albedo_l1"
        metric = AlbedoMetric
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

from visionmtl.metrics.base import TaskMetric
from visionmtl.tasks.codec import Codec, ValueCodec
from visionmtl.tasks.drawing import draw_values
from visionmtl.tasks.report import DenseReport, TaskReport
from visionmtl.tasks.result import DenseResult, TaskResult
from visionmtl.types import KINDS, DenseTarget, Target


class View(Protocol):
    """How the picture that a transform gives looks at its source.

    Attributes:
        matrix: (3, 3), source pixel coordinates -> output pixel coordinates.
        size: (H, W) of the output.
        rays: (2, 2), orthogonal, what flips and rotations do to the x and y of a direction.
        zoom: by how much the camera came nearer.
    """

    @property
    def matrix(self) -> np.ndarray: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def rays(self) -> np.ndarray: ...

    @property
    def zoom(self) -> float: ...


@dataclass(frozen=True)
class Kind:
    """One kind of task, with what a task of the kind has of its own as fields.

    Attributes:
        head: name of the head that a task has unless another is chosen.
        loss: name of the loss that a task has unless another is chosen.
        metric: class of what evaluation reports.
        target: class of the truth of one sample.
        codec: class of how labels are stored.
        report: class of what ``check-data`` says of the labels.
        measured_by_data: whether evaluation takes the options of the data set, not of the model.
        stated: fields that ``dataset.yaml`` must give, though they have a default.
    """

    head: ClassVar[str]
    loss: ClassVar[str]
    metric: ClassVar[type[TaskMetric]]
    target: ClassVar[type[Target]]
    codec: ClassVar[type[Codec]]
    report: ClassVar[type[TaskReport]]
    measured_by_data: ClassVar[bool] = False
    stated: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """The name of the kind."""
        return KINDS.name_of(type(self))

    @property
    def has_boxes(self) -> bool:
        """Whether the labels are boxes, and not a value per pixel."""
        return self.target is not DenseTarget

    @property
    def max_value(self) -> float | None:
        """The largest value of a prediction; None where it has no bound of its own."""
        return None

    def describe(self) -> str:
        """What a task has of its own, in a few words; empty where it is all said by the kind."""
        return ""

    def united(self, other: Self) -> Self:
        """The kind of a task that several data sets share: all classes, the largest range."""
        values = {}
        for field in fields(self):
            values[field.name] = max(getattr(self, field.name), getattr(other, field.name))
        return type(self)(**values)

    def facts(self) -> dict[str, Any]:
        """What constructors of heads, losses and metrics may ask for, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def make_metric(self) -> TaskMetric:
        """The metric of a task."""
        return self.metric()

    def followed(self, target: Any, view: View, index: np.ndarray, inside: np.ndarray) -> Any:
        """The target of the picture that a transform gives.

        Args:
            target: of the source picture.
            view: how the output looks at the source.
            index: int64 (H, W), the flat source pixel that each output pixel shows.
            inside: bool (H, W), whether it lies in the source picture.
        """
        raise NotImplementedError

    def result_of(self, prediction: Any) -> TaskResult:
        """What is drawn and written, from what ``visionmtl.prediction.infer.infer`` gives for one
        image.
        """
        raise NotImplementedError

    def draw(self, target: Any, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        """The truth as a picture of the image's size, see ``TaskResult.draw``."""
        raise NotImplementedError


@dataclass(frozen=True)
class DenseKind(Kind):
    """A kind with a value per pixel.

    Attributes:
        dtype: of the values.
        channels: shape of the value of a pixel in a batch, before (H, W): none, or one number.
        result: class of a finished prediction.
    """

    target = DenseTarget
    codec: ClassVar[type[Codec]] = ValueCodec
    report: ClassVar[type[TaskReport]] = DenseReport
    result: ClassVar[type[DenseResult]] = DenseResult
    dtype: ClassVar[type[np.generic]] = np.float32
    channels: ClassVar[tuple[int, ...]] = (1,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value of a pixel in a sample, after (H, W): one channel has no axis."""
        if self.channels == (1,):
            return ()
        return self.channels

    def followed(
        self, target: DenseTarget, view: View, index: np.ndarray, inside: np.ndarray
    ) -> DenseTarget:
        """Gathered by nearest neighbour, between ``prepared`` and ``seen``."""
        source = self.prepared(target.value, view)
        value = source.reshape(-1, *source.shape[2:]).take(index, axis=0)
        valid = target.valid.reshape(-1)[index] & inside
        value, valid = self.seen(value, valid, view)
        value[~valid] = 0
        return DenseTarget(value, valid, target.known)

    def prepared(self, value: np.ndarray, view: View) -> np.ndarray:
        """The values of the source before pixels are gathered."""
        return value

    def seen(
        self, value: np.ndarray, valid: np.ndarray, view: View
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gathered values as the new camera sees them, and where they are valid; both may be
        changed in place.
        """
        return value, valid

    def finish(self, output: Tensor, resampled: bool) -> Tensor:
        """The prediction (B, C, H, W) that the output of a head, at its final size, stands for.

        Args:
            output: (B, C, H, W).
            resampled: whether values were mixed bilinearly.
        """
        return output.float()

    def result_of(self, prediction: Tensor) -> DenseResult:
        """From a tensor (C, H, W), or (H, W) of class ids."""
        value = prediction.cpu().numpy()
        if value.ndim == 3:
            value = np.ascontiguousarray(np.moveaxis(value, 0, 2))
        return self.result(self, value.reshape(*value.shape[:2], *self.shape))

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        """Values on a scale of colours; of several channels the length of the vector."""
        values = target.value
        if values.ndim == 3:
            values = np.linalg.norm(values, axis=2)
        return draw_values(values, target.valid, max_value)
