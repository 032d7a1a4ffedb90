"""Boxes of tiles: what two tiles saw of one object becomes one box.

The IoU and the suppression are torchvision's. Uniting is own code: suppression keeps one box of
two, but here each of the two knows an end of the object that the other does not see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from visionmtl.types import Detections

AGREEMENT = 0.5
"""IoU within an overlap from which on two boxes are one object."""
SUPPRESSION = 0.6
"""IoU above which the worse of two boxes of a class is left out."""


@dataclass(eq=False)
class TileBox:
    """A detection in pixels of the whole image.

    Attributes:
        corners: x1, y1, x2, y2.
        score: 0..1.
        label: class id.
        tile: column and row of the tile that saw it.
    """

    corners: list[float]
    score: float
    label: int
    tile: tuple[int, int]


@dataclass(frozen=True)
class Seam:
    """Where tile ``index`` of an axis meets the next one.

    Attributes:
        axis: 0 for columns of tiles, 1 for rows.
        index: of the first tile.
        low: begin of the overlap, pixels.
        high: end of the overlap, pixels.
    """

    axis: int
    index: int
    low: float
    high: float


def tile_boxes(found: Detections, left: int, top: int, tile: tuple[int, int]) -> list[TileBox]:
    """The detections of a tile whose first pixel is (left, top)."""
    corners = found.boxes + found.boxes.new_tensor([left, top, left, top])
    columns = (corners.tolist(), found.scores.tolist(), found.labels.tolist())
    return [TileBox(*values, tile) for values in zip(*columns, strict=True)]


def join_tiles(boxes: list[TileBox], seams: Sequence[Seam], device: torch.device) -> Detections:
    """The detections of all tiles as those of one image, best first."""
    for seam in seams:
        boxes = _join(boxes, seam)
    corners = torch.tensor([box.corners for box in boxes], device=device).reshape(-1, 4)
    scores = torch.tensor([box.score for box in boxes], device=device)
    labels = torch.tensor([box.label for box in boxes], device=device, dtype=torch.int64)
    keep = batched_nms(corners, scores, labels, SUPPRESSION)
    return Detections(corners[keep], scores[keep], labels[keep])


def _join(boxes: list[TileBox], seam: Seam) -> list[TileBox]:
    """Unite boxes from the two sides of a seam that agree within the overlap."""
    firsts = [box for box in boxes if box.tile[seam.axis] == seam.index]
    absorbed: set[TileBox] = set()
    for second in boxes:
        if second.tile[seam.axis] != seam.index + 1:
            continue
        partners = [first for first in firsts if _may_be_one(first, second, seam)]
        candidates = [first for first in partners if first not in absorbed]
        while candidates:  # a united box may agree with further ones
            agreeing = (_agreement(second, candidates, seam) > AGREEMENT).nonzero()
            if not len(agreeing):
                break
            position = int(agreeing[0])
            _unite(second, candidates[position], seam.axis)
            absorbed.add(candidates[position])
            candidates = candidates[position + 1 :]
    return [box for box in boxes if box not in absorbed]


def _may_be_one(first: TileBox, second: TileBox, seam: Seam) -> bool:
    """Whether two boxes have one class; columns are joined row by row, rows as a whole."""
    same_row = first.tile[1] == second.tile[1]
    return first.label == second.label and (same_row or seam.axis == 1)


def _unite(second: TileBox, first: TileBox, axis: int) -> None:
    """Make ``second`` the box of both.

    Each tile may see less of an object than there is. Across the seam the first tile knows where
    the object begins and the second where it ends; along the seam the better score decides.
    """
    begin = first.corners[axis]
    end = second.corners[axis + 2]
    if first.score >= second.score:
        second.corners = list(first.corners)
        second.score = first.score
    second.corners[axis] = begin
    second.corners[axis + 2] = end


def _agreement(box: TileBox, others: Sequence[TileBox], seam: Seam) -> Tensor:
    """IoU (len(others),) of what lies within the overlap; NaN of two boxes without area there."""
    within_box = _within([box], seam)
    within_others = _within(others, seam)
    agreements: Tensor = box_iou(within_box, within_others)
    return agreements[0]


def _within(boxes: Sequence[TileBox], seam: Seam) -> Tensor:
    """Corners (N, 4) of the parts of boxes between the bounds of a seam."""
    low = [-math.inf, -math.inf]
    high = [math.inf, math.inf]
    low[seam.axis] = seam.low
    high[seam.axis] = seam.high
    corners = torch.tensor([box.corners for box in boxes], dtype=torch.float64)
    return corners.clamp(corners.new_tensor(low * 2), corners.new_tensor(high * 2))
