"""Tiles: an image that is too large for one pass of the network, seen in overlapping parts.

Dense predictions are blended by linear ramps across the overlap. Of the boxes, each tile gives
those whose anchor point is nearer to it than to the next tile; ``visionmtl.prediction.boxes`` joins
what two tiles saw of one object.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from visionmtl.models.heads.decode import decode
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.boxes import Seam, TileBox, join_tiles, tile_boxes
from visionmtl.prediction.resize import Finish
from visionmtl.types import DetectionOutput, Detections, Prediction

TILE = 2048
"""One pass takes TILE * TILE pixels; larger images are cut into tiles of at most this side."""
OVERLAP = 256
"""Pixels that neighbouring tiles share. Like the starts of tiles it is a multiple of the coarsest
stride, ``model.multiple``: the cells of a tile's maps lie where those of the whole image do.
"""


def infer_tiles(
    model: MultiTaskModel,
    forward: Callable[[Tensor], dict[str, Prediction]],
    images: Tensor,
    tile: int,
    score_threshold: float,
) -> dict[str, Tensor | list[Detections]]:
    """Predictions of images (B, 3, H, W) at their size.

    Dense ones are blended, and class ids already where ``finish`` of the kind makes such; the rest
    is to be finished after it is resampled.

    Args:
        model: its tasks.
        forward: one pass.
        images: RGB in 0..255.
        tile: largest side of a tile.
        score_threshold: detections below it are left out.
    """
    kinds = {spec.name: spec.kind for spec in model.tasks}
    rows = spans(images.shape[-2], tile, model.multiple)
    columns = spans(images.shape[-1], tile, model.multiple)
    canvases: dict[str, _Canvas] = {}
    found: dict[str, list[list[TileBox]]] = {}
    for r, y in enumerate(rows):
        for c, x in enumerate(columns):
            for name, value in forward(images[..., y.start : y.stop, x.start : x.stop]).items():
                if isinstance(value, Tensor):
                    canvas = canvases.setdefault(name, _Canvas(images, kinds[name].finish))
                    canvas.add(value, y, x)
                    continue
                boxes = found.setdefault(name, [[] for _ in images])
                seen = decode(_owned(value, y, x), score_threshold)
                for mine, detections in zip(boxes, seen, strict=True):
                    mine += tile_boxes(detections, x.start, y.start, (c, r))
    results: dict[str, Tensor | list[Detections]] = {}
    for name, canvas in canvases.items():
        results[name] = canvas.values
    seams = [*_seams(columns, axis=0), *_seams(rows, axis=1)]
    for name, boxes in found.items():
        results[name] = [join_tiles(mine, seams, images.device) for mine in boxes]
    return results


class Span(NamedTuple):
    """A tile along one axis: pixels start..stop, of which ``lead`` and ``trail`` are shared with
    its neighbours.
    """

    start: int
    stop: int
    lead: int
    trail: int

    def ramp(self, like: Tensor) -> Tensor:
        """Weights (stop - start,); those of all tiles sum to 1 at every pixel."""
        weights = torch.ones(self.stop - self.start, device=like.device)
        rise = (torch.arange(OVERLAP, device=like.device) + 0.5) / OVERLAP
        if self.lead:
            weights[:OVERLAP] = rise
        if self.trail:
            weights[-OVERLAP:] = 1 - rise
        return weights

    def core(self) -> tuple[float, float]:
        """The part of the tile, in its own pixels, that is nearer to it than to its neighbours."""
        begin = -math.inf
        end = math.inf
        if self.lead:
            begin = self.lead / 2
        if self.trail:
            end = self.stop - self.start - self.trail / 2
        return begin, end


def spans(length: int, limit: int, multiple: int) -> list[Span]:
    """Tiles of one side of at most ``limit`` that cover ``length`` with overlaps of exactly
    OVERLAP; they start at a multiple of ``multiple``.
    """
    if length <= limit:
        return [Span(0, length, 0, 0)]
    limit -= limit % multiple
    count = math.ceil((length - OVERLAP) / (limit - OVERLAP))
    step = math.ceil((length - OVERLAP) / count / multiple) * multiple
    count = math.ceil((length - OVERLAP) / step)  # rounding the step up may save a tile
    found = []
    for i in range(count):
        start = i * step
        stop = min(start + step + OVERLAP, length)
        found.append(Span(start, stop, OVERLAP * (i > 0), OVERLAP * (i < count - 1)))
    return found


def _seams(tiles: list[Span], axis: int) -> list[Seam]:
    seams = []
    for index, (before, after) in enumerate(pairwise(tiles)):
        seams.append(Seam(axis, index, after.start, before.stop))
    return seams


class _Canvas:
    """One dense task of a tiled image: ``values``, the blended pixels, and the sums that later
    tiles still add to.
    """

    values: Tensor
    _right: Tensor  # overlap with the next tile of the row
    _below: Tensor  # overlap with the next row of tiles, over the whole width

    def __init__(self, images: Tensor, finish: Finish) -> None:
        self.size = images.shape[-2:]
        self.finish = finish

    def add(self, piece: Tensor, y: Span, x: Span) -> None:
        """Add a tile; tiles come row by row."""
        if y.start == x.start == 0:
            self._below = piece.new_empty(
                (*piece.shape[:2], OVERLAP, self.size[1]), dtype=torch.float32
            )
        piece = piece.float() * y.ramp(piece).unsqueeze(-1) * x.ramp(piece)
        if x.lead:
            piece[..., :OVERLAP] += self._right
        if x.trail:
            self._right = piece[..., -OVERLAP:].clone()
            piece = piece[..., :-OVERLAP]
        columns = slice(x.start, x.start + piece.shape[-1])
        if y.lead:
            piece[..., :OVERLAP, :] += self._below[..., columns]
        if y.trail:
            self._below[..., columns] = piece[..., -OVERLAP:, :]
            piece = piece[..., :-OVERLAP, :]
        done = piece  # finished at its last size
        ids = self.finish(piece, True)
        if ids.dtype == torch.uint8:  # class ids take less memory
            done = ids
        if y.start == x.start == 0:
            self.values = done.new_empty((*done.shape[:2], *self.size))
        self.values[..., y.start : y.start + done.shape[-2], columns] = done


def _owned(output: DetectionOutput, y: Span, x: Span) -> DetectionOutput:
    """Only the points in the core of the tile, so that every point of the image is decoded once."""
    inside = torch.ones_like(output.strides, dtype=torch.bool)
    for axis, span in enumerate((x, y)):
        low, high = span.core()
        inside &= (output.points[:, axis] >= low) & (output.points[:, axis] < high)
    return DetectionOutput(
        output.class_logits[:, inside],
        output.distances[:, inside],
        output.centerness[:, inside],
        output.points[inside],
        output.strides[inside],
        output.size,
    )
