"""Saliency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.tasks.mask import MaskKind, MaskResult, blended, greyed
from visionmtl.types import KINDS, DenseTarget


class SaliencyResult(MaskResult):
    """The probability that a pixel is salient."""


@KINDS.register("saliency")
@dataclass(frozen=True)
class Saliency(MaskKind):
    """Whether a pixel belongs to what draws the eye: 0 or 1."""

    head: ClassVar[str] = "mask"
    loss: ClassVar[str] = "balanced_bce"
    metric = SaliencyMetric
    result = SaliencyResult

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_saliency(target.value, target.valid, image)


def draw_saliency(
    probability: np.ndarray, valid: np.ndarray | None, image: np.ndarray
) -> np.ndarray:
    """Probability (H, W) in 0..1: what is salient glows over the image, uint8 (H, W, 3), the rest
    is dark and grey.
    """
    glow = cv2.addWeighted(image, 0.55, np.full_like(image, (255, 120, 0)), 0.45, 0)
    return blended(probability, valid, greyed(image, 0.45), glow)
