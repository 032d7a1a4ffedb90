"""Stereo disparity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionmtl._options import Positive
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.tasks.base import View
from visionmtl.tasks.drawing import coloured, share_of, with_scale
from visionmtl.tasks.range import RangeKind, RangeResult
from visionmtl.types import KINDS, DenseTarget


class DisparityResult(RangeResult):
    """Disparity in the unit of the data set, larger is nearer; written in 1/256 of it (0 from 256
    on).
    """

    @property
    def disparity(self) -> np.ndarray:
        """float32 (H, W)."""
        return self.value


@KINDS.register("disparity")
@dataclass(frozen=True)
class Disparity(RangeKind):
    """Stereo disparity, proportional to the inverse of depth: larger is nearer, resizing an image
    leaves it.

    Args:
        max_disparity: in the unit of the data set, pixels as a rule; predictions are bounded by it
            and targets beyond it are invalid.
    """

    head: ClassVar[str] = "disparity"
    loss: ClassVar[str] = "l1"
    metric = DisparityMetric
    result = DisparityResult
    limit = "max_disparity"
    step = 1 / 256

    max_disparity: Positive

    def make_metric(self) -> DisparityMetric:
        return DisparityMetric(self.max_disparity)

    def seen(
        self, value: np.ndarray, valid: np.ndarray, view: View
    ) -> tuple[np.ndarray, np.ndarray]:
        """Disparity is inverse to depth: a camera that came nearer by a zoom sees zoom times as
        much.
        """
        if view.zoom != 1:
            value *= view.zoom
            valid &= value <= self.max_disparity
        return value, valid

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_disparity(target.value, target.valid, max_value)


def draw_disparity(
    disparity: np.ndarray, valid: np.ndarray | None = None, max_disparity: float | None = None
) -> np.ndarray:
    """Disparity (H, W), near (large) is warm, far is cool; ``max_disparity`` is as ``max_depth`` in
    ``draw_depth``.
    """
    share, max_disparity = share_of(disparity, valid, max_disparity)
    return with_scale(coloured(share), "0", f"{max_disparity:.3g}", (0, 255))
