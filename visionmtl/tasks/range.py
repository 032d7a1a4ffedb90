"""What depth and disparity share: a positive number per pixel, up to a largest one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from visionmtl._images import read_numbers
from visionmtl._options import Positive
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.drawing import save_image
from visionmtl.tasks.report import DenseReport
from visionmtl.tasks.result import DenseResult
from visionmtl.types import DenseTarget, TaskSpec

_HIGHEST = np.iinfo(np.uint16).max


class RangeCodec(Codec):
    """Multiples of ``scale``; 0 where invalid. Files are 16-bit grey PNGs.

    A value that 16 bits cannot hold becomes 0, "unknown" to every reader: a clipped value would
    lie.

    Args:
        kind: of the task.
        scale: what one unit of the stored numbers stands for, metres of depth (0.001 for
            millimetres).
        invalid_value: the stored number that stands for "no measurement". Invalid are also NaN,
            infinity, nothing above zero, and more than the largest value of the kind.
    """

    def __init__(self, kind: RangeKind, *, scale: Positive, invalid_value: float = 0.0) -> None:
        super().__init__(kind)
        self.scale = scale
        self.invalid_value = invalid_value

    @classmethod
    def for_labels(cls, kind: RangeKind) -> Self:
        """In steps of the kind, or coarser ones where its range needs them."""
        return cls(kind, scale=max(kind.step, kind.max_value / _HIGHEST))

    @classmethod
    def for_predictions(cls, kind: RangeKind) -> Self:
        return cls(kind, scale=kind.step)

    def encode(self, target: DenseTarget) -> np.ndarray:
        known = target.valid & (target.value > 0)
        codes = np.rint(np.where(known, target.value, 0) / self.scale)
        codes[known] = codes[known].clip(1)
        # What is rounded up beyond the range would come back as invalid.
        limit = self.kind.max_value / self.scale
        last = round(limit)
        if last * self.scale > self.kind.max_value:
            last -= 1
        codes[(codes > last) & (codes <= limit + 1)] = last
        codes[codes > min(last, _HIGHEST)] = 0
        return codes.astype(np.uint16)

    def decode(self, codes: np.ndarray, source: str = "codes") -> DenseTarget:
        values = codes.astype(np.float64) * self.scale
        in_range = np.isfinite(values) & (values > 0) & (values <= self.kind.max_value)
        valid = in_range & (codes != self.invalid_value)
        return DenseTarget(np.where(valid, values, 0).astype(np.float32), valid)

    def read(self, path: Path) -> DenseTarget:
        return self.decode(read_numbers(path, self.kind.name))


class RangeReport(DenseReport):
    """Pixels per range of 1 / ``num_bins`` of the largest value; ``low`` and ``high`` in the unit
    of the values.
    """

    num_bins = 1000

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.largest: float = spec.kind.max_value
        self.suffix: str = spec.kind.suffix
        self.invalid_hint = f"; are scale and {spec.kind.limit} right?"

    def value_fault(self, values: np.ndarray) -> str:
        if ((values > 0) & (values <= self.largest)).all():
            return ""
        return f"{self.spec.kind.name} is not in 0..{self.largest}{self.suffix} everywhere"

    def bins(self, values: np.ndarray) -> np.ndarray:
        self.widen(values)
        positions = np.minimum(values * (self.num_bins / self.largest), self.num_bins - 1)
        numbers: np.ndarray = positions.astype(np.int64)
        return numbers

    def median(self) -> float:
        """Exact to 1 / ``num_bins`` of the largest value."""
        middle = int(np.searchsorted(self.counts.cumsum(), self.counts.sum() / 2))
        return float((middle + 0.5) * self.largest / self.num_bins)

    def range(self) -> str:
        numbers = f"{self.low:.2f} .. {self.median():.2f} .. {self.high:.2f}"
        return f"{numbers}{self.suffix} (min, median, max)"


class RangeResult(DenseResult):
    """A positive number per pixel, float32 (H, W).

    Written as a 16-bit PNG in steps of the kind, 0 where that is too large, and in colours.
    """

    def save(self, folder: Path, stem: str, image: np.ndarray, name: str = "") -> None:
        super().save(folder, stem, image, name)
        save_image(folder / f"{stem}_color.png", self.draw(image))


@dataclass(frozen=True)
class RangeKind(DenseKind):
    """A positive number per pixel; predictions are bounded by the largest and targets beyond it are
    invalid.

    Attributes:
        limit: name of the field that holds the largest value.
        step: what one unit of the numbers in new files stands for.
        suffix: after a number in a text.
    """

    codec: ClassVar[type[RangeCodec]] = RangeCodec
    report = RangeReport
    result: ClassVar[type[RangeResult]] = RangeResult
    measured_by_data = True
    limit: ClassVar[str]
    step: ClassVar[float]
    suffix: ClassVar[str] = ""

    @property
    def max_value(self) -> float:
        largest: float = getattr(self, self.limit)
        return largest

    def describe(self) -> str:
        return f"0 to {self.max_value:g}{self.suffix}"
