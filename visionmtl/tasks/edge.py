"""Edges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from visionmtl.metrics.edge import EdgeMetric
from visionmtl.tasks.base import View
from visionmtl.tasks.mask import MaskKind, MaskResult, blended, greyed
from visionmtl.types import KINDS, DenseTarget


class EdgeResult(MaskResult):
    """The probability that a pixel lies on an edge."""


@KINDS.register("edge")
@dataclass(frozen=True)
class Edge(MaskKind):
    """Whether a pixel lies on a boundary between regions: 0 or 1.

    Args:
        tolerance: how far off a predicted line may be, as a share of the image's diagonal. Usual is
            0.0075, on NYUv2 0.011.
    """

    head: ClassVar[str] = "mask"
    loss: ClassVar[str] = "edge_bce"
    metric = EdgeMetric
    result = EdgeResult
    measured_by_data = True

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.0075

    def make_metric(self) -> EdgeMetric:
        return EdgeMetric(self.tolerance)

    def prepared(self, value: np.ndarray, view: View) -> np.ndarray:
        return thickened(value, view)

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_edges(target.value, target.valid, image)


def draw_edges(probability: np.ndarray, valid: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Probability (H, W) in 0..1 as bright lines over the darkened image, uint8 (H, W, 3)."""
    return blended(probability, valid, greyed(image, 0.3), np.full_like(image, (255, 225, 130)))


def thickened(edges: np.ndarray, view: View) -> np.ndarray:
    """Lines (H, W) so thick that a step to the next pixel that is gathered cannot leap over them:
    no gaps appear.

    Lines whose pixels touch at corners have no thickness there, which a turned view would see.
    """
    # Of a pixel to the right and down, in pixels of the source.
    steps = np.abs(np.linalg.inv(view.matrix)[:2, :2])
    width, height = (max(1, math.ceil(step - 1e-6)) for step in steps.max(axis=1))
    if steps[0, 1] > 1e-6 or steps[1, 0] > 1e-6:
        edges = joined(edges)
    if width == height == 1:
        return edges
    return cv2.dilate(edges, np.ones((height, width), np.uint8))


def joined(edges: np.ndarray) -> np.ndarray:
    """Edges 0 or 1 (H, W), with a third pixel where two touch at a corner only."""
    upper_left = edges[:-1, :-1]
    upper_right = edges[:-1, 1:]
    lower_left = edges[1:, :-1]
    lower_right = edges[1:, 1:]
    out = edges.copy()
    out[:-1, 1:] |= upper_left & lower_right & (1 - lower_left)
    out[:-1, :-1] |= upper_right & lower_left & (1 - lower_right)
    return out
