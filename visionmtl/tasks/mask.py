"""What saliency and edges share: yes or no for every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

import cv2
import numpy as np
from pydantic import Field
from torch import Tensor

from visionmtl._images import read_ids
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.report import DenseReport
from visionmtl.tasks.result import DenseResult
from visionmtl.types import DenseTarget


class MaskCodec(Codec):
    """0 is no, ``positive_value`` is yes. Files are grey or palette PNGs of up to 8 bits, or 16-bit
    grey ones.

    Args:
        kind: of the task.
        positive_value: the stored number that means yes.
        ignore_value: the stored number of invalid pixels; None if there are none.

    Raises:
        ValueError: an ``ignore_value`` that means yes or no, too.
    """

    def __init__(
        self,
        kind: MaskKind,
        *,
        positive_value: Annotated[int, Field(ge=1)] = 1,
        ignore_value: int | None = 255,
    ) -> None:
        super().__init__(kind)
        if ignore_value in (0, positive_value):
            raise ValueError(f"ignore_value {ignore_value} means yes or no too; null is none")
        self.positive_value = positive_value
        self.ignore_value = ignore_value

    @classmethod
    def for_predictions(cls, kind: MaskKind) -> Self:
        """Probabilities in 8 bits."""
        return cls(kind, positive_value=255, ignore_value=None)

    def encode(self, target: DenseTarget) -> np.ndarray:
        """The share of ``positive_value`` that a value in 0..1 is."""
        highest = max(self.positive_value, self.ignore_value or 0)
        share = target.value.astype(np.float32) * np.float32(self.positive_value)
        codes: np.ndarray = share.round().astype(np.min_scalar_type(highest))
        if not target.valid.all():
            assert self.ignore_value is not None, "no code for invalid pixels"
            codes[~target.valid] = self.ignore_value
        return codes

    def decode(self, codes: np.ndarray, source: str = "codes") -> DenseTarget:
        if self.ignore_value is None:
            valid = np.ones(codes.shape, bool)
        else:
            valid = codes != self.ignore_value
        value = valid & (codes == self.positive_value)
        others = codes[valid & (codes != 0) & ~value]
        if others.size:
            found = ", ".join(map(str, np.unique(others)[:10]))
            expected = f"0 (no), {self.positive_value} (yes)"
            if self.ignore_value is not None:
                expected += f", {self.ignore_value} (ignored)"
            raise ValueError(f"{source}: values {found}, expected {expected}")
        return DenseTarget(value.astype(np.uint8), valid)

    def read(self, path: Path) -> DenseTarget:
        return self.decode(read_ids(path), str(path))


class MaskReport(DenseReport):
    """Pixels that are negative, and positive."""

    num_bins = 2

    def value_fault(self, values: np.ndarray) -> str:
        highest = values.max(initial=0)
        if highest <= 1:
            return ""
        return f"value {highest} is not 0 or 1"

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values

    def range(self) -> str:
        return f"{self.counts[1] / self.valid:.2%} positive"

    def notes(self) -> list[str]:
        found = super().notes()
        if self.valid and not self.counts[1]:
            hint = "files with 0 and 255 need positive_value: 255 and ignore_value: null"
            found.insert(0, f"no pixel is positive; {hint}")
        return found


class MaskResult(DenseResult):
    """The probability float32 (H, W) of a yes. Written as 8-bit PNG, round(255 p)."""

    shrinking = cv2.INTER_AREA  # thin lines grow pale, they do not break

    @property
    def probability(self) -> np.ndarray:
        """float32 (H, W), in 0..1."""
        return self.value


@dataclass(frozen=True)
class MaskKind(DenseKind):
    """Yes or no for every pixel: 0 or 1; logits are predicted."""

    codec = MaskCodec
    report = MaskReport
    result: ClassVar[type[MaskResult]] = MaskResult
    dtype = np.uint8
    channels = ()

    def finish(self, output: Tensor, resampled: bool) -> Tensor:
        return output.float().sigmoid()


def greyed(image: np.ndarray, brightness: float) -> np.ndarray:
    """A picture uint8 (H, W, 3) without its colours, darkened to a share of its brightness."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) * np.float32(brightness)
    return grey.astype(np.uint8)[..., None].repeat(3, -1)


def blended(
    probability: np.ndarray, valid: np.ndarray | None, no: np.ndarray, yes: np.ndarray
) -> np.ndarray:
    """From the picture of 0 to the picture of 1; invalid pixels are black."""
    share = np.nan_to_num(probability.astype(np.float32)).clip(0, 1)[..., None]
    picture: np.ndarray = (no * (1 - share) + yes * share).round().astype(np.uint8)
    if valid is not None:
        picture[~valid] = 0
    return picture
