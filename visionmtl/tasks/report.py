"""What all samples of one task hold together, and whether one sample keeps the contracts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from rich.table import Table

from visionmtl.types import DenseTarget, TaskSpec


class TaskReport:
    """The sums over the samples of one task.

    Attributes:
        spec: the task.
        annotated: number of samples with this task.
        counts: how often each class occurs, or each of ``num_bins`` kinds of value.
        low, high: the range of the values, where they have one.
    """

    unit: ClassVar[str] = "pixels"
    num_bins: ClassVar[int] = 0

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.annotated = 0
        self.counts = np.zeros(self.num_bins or spec.num_classes, np.int64)
        self.low = np.inf
        self.high = -np.inf

    def fault(self, target: Any, size: tuple[int, int]) -> str:
        """The first breach of the contracts of ``visionmtl.types``, empty where there is none.

        Args:
            target: of one sample.
            size: (H, W) of its image.
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
        absent = []
        for name, count in zip(self.spec.classes, self.counts, strict=False):
            if not count:
                absent.append(name)
        if absent:
            return [f"classes without an example: {', '.join(absent)}"]
        return []

    def class_table(self) -> Table:
        """Every class with its number and share."""
        table = Table(f"{self.spec.name} class", self.unit, "share")
        for name, count in zip(self.spec.classes, self.counts.tolist(), strict=True):
            table.add_row(name, str(count), f"{count / self.counts.sum():.2%}")
        return table

    def widen(self, values: np.ndarray) -> None:
        """Let the range include some values."""
        self.low = min(self.low, float(values.min(initial=np.inf)))
        self.high = max(self.high, float(values.max(initial=-np.inf)))


class DenseReport(TaskReport):
    """A task with a value per pixel.

    Attributes:
        valid, total: pixels of annotated samples.
    """

    num_bins = 1
    invalid_hint: str = ""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.valid = 0
        self.total = 0

    def fault(self, target: DenseTarget, size: tuple[int, int]) -> str:
        value = target.value
        valid = target.valid
        kind = self.spec.kind
        shapes_fit = value.shape == (*size, *kind.shape) and valid.shape == size
        if value.dtype != kind.dtype or valid.dtype != bool or not shapes_fit:
            found = f"value {value.dtype} {value.shape} and valid {valid.dtype} {valid.shape}"
            return f"{found}, the image is {size}"
        if value[~valid].any():
            return "invalid pixels do not hold 0"
        return self.value_fault(value[valid])

    def value_fault(self, values: np.ndarray) -> str:
        """``fault`` of the valid values (N, ...)."""
        if np.isfinite(values).all():
            return ""
        return f"{self.spec.kind.name} is not finite everywhere"

    def update(self, target: DenseTarget) -> None:
        self.annotated += 1
        self.total += target.valid.size
        values = target.value[target.valid]
        self.valid += len(values)
        self.counts += np.bincount(self.bins(values), minlength=len(self.counts))

    def bins(self, values: np.ndarray) -> np.ndarray:
        """The position in ``counts`` of each valid value (N, ...)."""
        self.widen(values)
        return np.zeros(len(values), np.int64)

    @property
    def invalid_share(self) -> float:
        """Share of the pixels of annotated samples without a value; nan without samples."""
        if not self.total:
            return float("nan")
        return 1 - self.valid / self.total

    @property
    def invalid(self) -> str:
        if not self.total:
            return "-"
        return f"{self.invalid_share:.1%}"

    def contents(self) -> str:
        if not self.valid:
            return "no value"
        return self.range()

    def range(self) -> str:
        """``contents`` where there are any."""
        return f"{self.low:.4g} .. {self.high:.4g} (min, max)"

    def notes(self) -> list[str]:
        found = super().notes()
        if self.valid and self.invalid_share > 0.5:
            found.append(f"{self.invalid_share:.0%} of the pixels are invalid{self.invalid_hint}")
        return found
