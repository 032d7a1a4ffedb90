"""Depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from visionmtl._options import Positive
from visionmtl.metrics.depth import DepthMetric
from visionmtl.tasks.base import View
from visionmtl.tasks.drawing import coloured, share_of, with_scale
from visionmtl.tasks.range import RangeCodec, RangeKind, RangeResult
from visionmtl.types import KINDS, DenseTarget


class DepthCodec(RangeCodec):
    """As ``RangeCodec``, in metres."""

    def __init__(
        self,
        kind: Depth,
        *,
        unit: Literal["metre"] = "metre",
        scale: Positive,
        invalid_value: float = 0.0,
    ) -> None:
        super().__init__(kind, scale=scale, invalid_value=invalid_value)
        self.unit = unit


class DepthResult(RangeResult):
    """Depth in metres, written in millimetres (0 beyond 65.535 m)."""

    @property
    def metres(self) -> np.ndarray:
        """float32 (H, W)."""
        return self.value


@KINDS.register("depth")
@dataclass(frozen=True)
class Depth(RangeKind):
    """Planar depth along the optical axis, in metres.

    Args:
        max_depth: metres; predictions are bounded by it and targets beyond it are invalid.
    """

    head: ClassVar[str] = "depth"
    loss: ClassVar[str] = "l1"
    metric = DepthMetric
    codec = DepthCodec
    result = DepthResult
    stated = ("max_depth",)
    limit = "max_depth"
    step = 0.001
    suffix = " m"

    max_depth: Positive = 10.0

    def make_metric(self) -> DepthMetric:
        return DepthMetric(self.max_depth)

    def seen(
        self, value: np.ndarray, valid: np.ndarray, view: View
    ) -> tuple[np.ndarray, np.ndarray]:
        """A camera that came nearer by a zoom sees 1 / zoom of the depth."""
        if view.zoom != 1:
            value /= view.zoom
            valid &= value <= self.max_depth
        return value, valid

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_depth(target.value, target.valid, max_value)


def draw_depth(
    metres: np.ndarray, valid: np.ndarray | None = None, max_depth: float | None = None
) -> np.ndarray:
    """Depth (H, W) in metres, near is warm and far is cool, with a scale that starts at 0.

    ``max_depth`` is the far end of the colours; None takes the 98th percentile of the picture
    itself. Give the same value to pictures that are to be compared.
    """
    share, max_depth = share_of(metres, valid, max_depth)
    return with_scale(coloured(1 - share), "0", f"{max_depth:.3g} m", (255, 0))
