"""What all samples of one task hold together, and whether one sample keeps the contracts: a class
per kind of task.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from rich.table import Table

from visionmtl.types import BoxTarget, DenseTarget, Target, TaskSpec


class TaskReport:
    """The sums over the samples of one task.

    Attributes:
        spec: the task.
        annotated: number of samples with this task.
        counts: how often each class occurs, or each of ``num_bins`` kinds of value.
        low, high: the range of the values, where they have one.
    """

    target_type: ClassVar[type[Target]]
    unit: ClassVar[str] = "pixels"
    num_bins: ClassVar[int] = 0

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.annotated = 0
        self.counts = np.zeros(self.num_bins or spec.num_classes, np.int64)
        self.low, self.high = np.inf, -np.inf

    def _widen(self, values: np.ndarray) -> None:
        self.low = min(self.low, float(values.min(initial=np.inf)))
        self.high = max(self.high, float(values.max(initial=-np.inf)))

    def fault(self, target: Any, size: tuple[int, int]) -> str:
        """The first breach of the contracts of ``visionmtl.types``, empty where there is none;
        ``size`` is (H, W).
        """
        raise NotImplementedError

    def update(self, target: Any) -> None:
        """Add one sample."""
        raise NotImplementedError

    @property
    def invalid(self) -> str:
        """Share of the pixels without a value, as text."""
        return "-"

    def contents(self) -> str:
        """The value range in one line."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What is allowed and deserves a look."""
        if not self.annotated:
            return ["annotated on no sample"]
        if not self.counts.any():
            return [f"annotated on {self.annotated} samples, and no value on any"]
        absent = [
            name for name, count in zip(self.spec.classes, self.counts, strict=False) if not count
        ]
        return [f"classes without an example: {', '.join(absent)}"] if absent else []

    def class_table(self) -> Table:
        """Every class with its number and share."""
        table = Table(f"{self.spec.name} class", self.unit, "share")
        for name, count in zip(self.spec.classes, self.counts.tolist(), strict=True):
            table.add_row(name, str(count), f"{count / self.counts.sum():.2%}")
        return table


class DenseReport(TaskReport):
    """A task with a value per pixel.

    Attributes:
        valid, total: pixels of annotated samples.
    """

    target_type = DenseTarget
    dtype: ClassVar[type[np.generic]] = np.float32
    channels: ClassVar[tuple[int, ...]] = ()
    invalid_hint: str = ""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.valid = self.total = 0

    def fault(self, target: DenseTarget, size: tuple[int, int]) -> str:
        value, valid = target.value, target.valid
        shapes_fit = value.shape == (*size, *self.channels) and valid.shape == size
        if value.dtype != self.dtype or valid.dtype != bool or not shapes_fit:
            return f"value {value.dtype} {value.shape} and valid {valid.dtype} {valid.shape}, the image is {size}"
        return (
            "invalid pixels do not hold 0"
            if value[~valid].any()
            else self.value_fault(value[valid])
        )

    def value_fault(self, values: np.ndarray) -> str:
        """``fault`` of the valid values (N, ...)."""
        raise NotImplementedError

    def update(self, target: DenseTarget) -> None:
        self.annotated += 1
        self.total += target.valid.size
        values = target.value[target.valid]
        self.valid += len(values)
        self.counts += np.bincount(self.bins(values), minlength=len(self.counts))

    def bins(self, values: np.ndarray) -> np.ndarray:
        """The position in ``counts`` of each valid value (N, ...)."""
        raise NotImplementedError

    @property
    def invalid_share(self) -> float:
        """Share of the pixels of annotated samples without a value; nan without samples."""
        return 1 - self.valid / self.total if self.total else float("nan")

    @property
    def invalid(self) -> str:
        return f"{self.invalid_share:.1%}" if self.total else "-"

    def contents(self) -> str:
        return self.range() if self.valid else "no value"

    def range(self) -> str:
        """``contents`` where there are any."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        found = super().notes()
        if self.valid and self.invalid_share > 0.5:
            found.append(f"{self.invalid_share:.0%} of the pixels are invalid{self.invalid_hint}")
        return found


class SemSegReport(DenseReport):
    """Pixels per class."""

    dtype = np.uint8

    def value_fault(self, values: np.ndarray) -> str:
        highest, classes = values.max(initial=0), self.spec.num_classes
        return f"class id {highest} is not in 0..{classes - 1}" if highest >= classes else ""

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values

    def range(self) -> str:
        return f"{np.count_nonzero(self.counts)} of {len(self.counts)} classes"


class DepthReport(DenseReport):
    """Pixels per range of 1 / ``num_bins`` of the largest depth, or disparity; ``low`` and ``high``
    in its unit.
    """

    num_bins = 1000

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.largest = spec.kind.max_value
        self.suffix = "" if spec.kind.name == "disparity" else " m"
        self.invalid_hint = f"; are scale and max_{spec.kind.name} right?"

    def value_fault(self, values: np.ndarray) -> str:
        inside = ((values > 0) & (values <= self.largest)).all()
        return (
            ""
            if inside
            else f"{self.spec.kind.name} is not in 0..{self.largest}{self.suffix} everywhere"
        )

    def bins(self, values: np.ndarray) -> np.ndarray:
        self._widen(values)
        positions = np.minimum(values * (self.num_bins / self.largest), self.num_bins - 1)
        numbers: np.ndarray = positions.astype(np.int64)
        return numbers

    def median(self) -> float:
        """Exact to 1 / ``num_bins`` of the largest value."""
        middle = int(np.searchsorted(self.counts.cumsum(), self.counts.sum() / 2))
        return float((middle + 0.5) * self.largest / self.num_bins)

    def range(self) -> str:
        return f"{self.low:.2f} .. {self.median():.2f} .. {self.high:.2f}{self.suffix} (min, median, max)"


class MaskReport(DenseReport):
    """Pixels that are negative, and positive."""

    dtype = np.uint8
    num_bins = 2

    def value_fault(self, values: np.ndarray) -> str:
        highest = values.max(initial=0)
        return f"value {highest} is not 0 or 1" if highest > 1 else ""

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values

    def range(self) -> str:
        return f"{self.counts[1] / self.valid:.2%} positive"

    def notes(self) -> list[str]:
        nowhere = [
            "no pixel is positive; files with 0 and 255 need positive_value: 255 and ignore_value: null"
        ]
        return (nowhere if self.valid and not self.counts[1] else []) + super().notes()


class NormalsReport(DenseReport):
    """Pixels that face the camera, and that face away from it."""

    channels = (3,)
    num_bins = 2

    def value_fault(self, values: np.ndarray) -> str:
        unit = (np.abs(np.linalg.norm(values, axis=1) - 1) < 1e-3).all()
        return "" if unit else "normals are not of unit length everywhere"

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values[:, 2] > 0

    def range(self) -> str:
        return f"{self.counts[0] / self.valid:.1%} towards the camera (z <= 0)"

    def notes(self) -> list[str]:
        away = ["most point away from the camera; expected x right, y down, z forward"]
        return (away if self.counts[1] > self.valid / 2 else []) + super().notes()


class BoxReport(TaskReport):
    """Boxes per class; ``low`` and ``high`` of the longer side in pixels.

    Attributes:
        empty: images without a box.
    """

    target_type = BoxTarget
    unit = "boxes"

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.empty = 0

    def fault(self, target: BoxTarget, size: tuple[int, int]) -> str:
        boxes, labels = target.boxes, target.labels
        if (
            boxes.dtype != np.float32
            or boxes.shape != (labels.size, 4)
            or labels.dtype != np.int64
            or labels.ndim != 1
        ):
            return f"boxes {boxes.dtype} {boxes.shape} and labels {labels.dtype} {labels.shape}"
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.spec.num_classes:
            return (
                f"labels {labels.min()}..{labels.max()} are not in 0..{self.spec.num_classes - 1}"
            )
        corners, limit = boxes.reshape(-1, 2, 2), (size[1], size[0])
        inside = (corners >= 0) & (corners <= limit)
        if not (inside.all() and (corners[:, 0] < corners[:, 1]).all()):
            return f"boxes without area or not in 0..{limit}"
        return ""

    def update(self, target: BoxTarget) -> None:
        self.annotated += 1
        self.empty += len(target.boxes) == 0
        self.counts += np.bincount(target.labels, minlength=len(self.counts))
        self._widen((target.boxes[:, 2:] - target.boxes[:, :2]).max(axis=1))

    def contents(self) -> str:
        number = int(self.counts.sum())
        sizes = f"{number} boxes of {self.low:.0f} .. {self.high:.0f} px" if number else "no boxes"
        return f"{sizes}, {self.empty} images without"
