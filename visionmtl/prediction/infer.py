"""From images of any size to predictions at that size: what evaluation, prediction and serving
share.

Images are brought to the scale that the model was trained at, and predictions back to the size of
the image. What is too large for one pass goes through the network in overlapping tiles. Their dense
predictions are blended by linear ramps across the overlap. Of the boxes, each tile gives those
whose anchor point is nearer to it than to the next tile; two boxes of a class that agree within an
overlap are one object seen by two tiles, and become one box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import DetectionOutput, Detections, Prediction

Size = int | Literal["native"] | None
Finish = Callable[[Tensor, bool], Tensor]
"""``TaskResult.finish`` of a kind."""

TILE = 2048
"""One pass takes TILE * TILE pixels; larger images are cut into tiles of at most this side."""
OVERLAP = 256
"""Pixels that neighbouring tiles share. Like the starts of tiles it is a multiple of the coarsest
stride, ``model.multiple``: the cells of a tile's feature maps lie where those of the whole image do.
"""
MAX_ASPECT = 8
STRIP_ELEMENTS = 2**25
"""Dense predictions are resampled in strips of rows of about this many numbers."""


def infer(
    model: MultiTaskModel,
    images: Tensor,
    size: Size = None,
    *,
    tasks: Sequence[str] | None = None,
    score_threshold: float = 0.05,
    tile: int = TILE,
) -> dict[str, Tensor | list[Detections]]:
    """Predict every task at the size of the images.

    The caller puts the model into evaluation mode, and back: ``evaluation_mode``. The result holds
    inference tensors (no gradients), on the device of the images, which is the model's.

    Args:
        model: the network.
        images: (B, 3, H, W) RGB in 0..255, uint8 or float.
        size: short side of what the network sees, see ``network_size``. None: that of
            ``model.input_size``.
        tasks: compute these only; None for all.
        score_threshold: detections below it are left out.
        tile: largest side of a tile, at least 768.

    Returns:
        In task order: semseg class ids uint8 (B, H, W), depth float32 (B, 1, H, W) metres, normals
        float32 (B, 3, H, W) unit vectors, detection one ``Detections`` per image, at most 100 per
        tile, disparity float32 (B, 1, H, W), saliency and edge float32 (B, 1, H, W) probabilities.
        Where the network sees the images as they are, depth, disparity and normals are its output,
        bit for bit. Otherwise logits, values and vectors are resampled bilinearly; of tiled images
        the class ids by nearest neighbour, so that memory does not grow with H * W * K.

    Raises:
        ValueError: images of another shape, an invalid ``size`` or ``tile``.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"images must be (B, 3, H, W) RGB in 0..255, got shape {tuple(images.shape)}"
        )
    if tile < 3 * OVERLAP:
        raise ValueError(f"tile must be at least {3 * OVERLAP} pixels, got {tile}")
    height, width = images.shape[-2:]
    forward = model if tasks is None else partial(model, tasks=tasks)
    with torch.inference_mode():
        seen = _resize_images(images, *network_size(height, width, size, model.input_size))
        tiled = seen.shape[-2] * seen.shape[-1] > tile * tile
        if tiled:
            raw = _infer_tiles(model, forward, seen, tile, score_threshold)
        else:
            raw = {
                n: v if isinstance(v, Tensor) else _decode(v, score_threshold)
                for n, v in forward(seen).items()
            }
        scale = (width / seen.shape[-1], height / seen.shape[-2])
        results: dict[str, Tensor | list[Detections]] = {}
        for spec in model.tasks:
            if spec.name not in raw:
                continue
            value = raw.pop(spec.name)
            if isinstance(value, Tensor):
                dense = _resize_dense(value, spec.kind.result.finish, height, width, tiled)
                results[spec.name] = (
                    dense[:, 0] if dense.dtype == torch.uint8 else dense
                )  # class ids have no channels
            else:
                results[spec.name] = [_scaled(found, *scale) for found in value]
    return results


def network_size(
    height: int, width: int, size: Size, input_size: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width that an image is brought to, aspect kept.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        size: an integer is the short side; ``"native"`` leaves the image as it is; None takes the
            short side of ``input_size``, or leaves the image as it is where that is None. Of images
            longer than 8 : 1 the long side becomes 8 * ``size``: a line of pixels must not grow
            into a giant.
        input_size: height and width of the training images.

    >>> network_size(1080, 1920, None, (240, 320))
    (240, 427)

    Raises:
        ValueError: ``size`` is none of these.
    """
    if size is None and input_size is not None:
        size = min(input_size)
    if size is None or size == "native":
        return height, width
    if isinstance(size, str | bool | float) or size < 1:
        raise ValueError(
            f"size must be a positive number of pixels, 'native' or None, got {size!r}"
        )
    scale = min(size / min(height, width), MAX_ASPECT * size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of the model into evaluation mode, and back into the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _resize_images(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    channels = [  # one by one: a third of the memory
        F.interpolate(c.float(), (height, width), mode="bilinear", antialias=True)
        for c in images.chunk(3, dim=1)
    ]
    return torch.cat(channels, dim=1)


def _resize_dense(values: Tensor, finish: Finish, height: int, width: int, blended: bool) -> Tensor:
    """Finished predictions (B, C, height, width) from the network's output or, ``blended``, from
    that of its tiles.
    """
    if values.dtype == torch.uint8:
        return F.interpolate(values, (height, width), mode="nearest-exact")
    if values.shape[-2:] == (height, width) and not blended:
        return finish(values, False)
    rows = max(1, STRIP_ELEMENTS // (values.shape[0] * values.shape[1] * width))
    out: Tensor | None = None
    for top in range(0, height, rows):  # strip by strip: the logits of all pixels may be gigabytes
        strip = finish(_bilinear_rows(values, top, min(top + rows, height), height, width), True)
        if out is None:
            out = strip.new_empty((*strip.shape[:2], height, width))
        out[..., top : top + rows, :] = strip
    assert out is not None
    return out


def _bilinear_rows(values: Tensor, top: int, bottom: int, height: int, width: int) -> Tensor:
    """Rows top..bottom of ``F.interpolate(values, (height, width), mode="bilinear")``."""
    rows = values.shape[-2]
    y = torch.arange(top, bottom, device=values.device, dtype=torch.float32)
    y = ((y + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)
    above = y.long()
    below = (above + 1).clamp(max=rows - 1)
    strip = torch.lerp(
        values[..., above, :].float(), values[..., below, :].float(), (y - above).unsqueeze(-1)
    )
    return F.interpolate(strip, (bottom - top, width), mode="bilinear")


def _decode(output: DetectionOutput, score_threshold: float) -> list[Detections]:
    from visionmtl.models.heads.decode import decode  # it needs torchvision

    return decode(output, score_threshold)


def _scaled(found: Detections, scale_x: float, scale_y: float) -> Detections:
    return Detections(
        found.boxes * found.boxes.new_tensor([scale_x, scale_y] * 2), found.scores, found.labels
    )


class _Span(NamedTuple):
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
        return (self.lead / 2 or -math.inf), (
            self.stop - self.start - self.trail / 2 if self.trail else math.inf
        )


def _spans(length: int, limit: int, multiple: int) -> list[_Span]:
    """Tiles of one side of at most ``limit`` that cover ``length`` with overlaps of exactly
    OVERLAP.
    """
    if length <= limit:
        return [_Span(0, length, 0, 0)]
    limit -= limit % multiple
    count = math.ceil((length - OVERLAP) / (limit - OVERLAP))
    step = math.ceil((length - OVERLAP) / count / multiple) * multiple
    count = math.ceil((length - OVERLAP) / step)  # rounding the step up may save a tile
    return [
        _Span(
            i * step,
            min((i + 1) * step + OVERLAP, length),
            OVERLAP * (i > 0),
            OVERLAP * (i < count - 1),
        )
        for i in range(count)
    ]


def _infer_tiles(
    model: MultiTaskModel,
    forward: Callable[[Tensor], dict[str, Prediction]],
    images: Tensor,
    tile: int,
    score_threshold: float,
) -> dict[str, Tensor | list[Detections]]:
    finish = {spec.name: spec.kind.result.finish for spec in model.tasks}
    rows, columns = (_spans(length, tile, model.multiple) for length in images.shape[-2:])
    canvases: dict[str, _Canvas] = {}
    found: dict[str, list[list[_Box]]] = {}
    for r, y in enumerate(rows):
        for c, x in enumerate(columns):
            for name, value in forward(images[..., y.start : y.stop, x.start : x.stop]).items():
                if isinstance(value, Tensor):
                    canvas = canvases.setdefault(name, _Canvas(images, finish[name]))
                    canvas.add(value, y, x)
                    continue
                boxes = found.setdefault(name, [[] for _ in images])
                for mine, seen in zip(
                    boxes, _decode(_owned(value, y, x), score_threshold), strict=True
                ):
                    mine += _boxes(seen, x.start, y.start, (c, r))
    joined = {
        name: [_merged(mine, columns, rows, images.device) for mine in boxes]
        for name, boxes in found.items()
    }
    return {name: canvas.values for name, canvas in canvases.items()} | joined


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

    def add(self, piece: Tensor, y: _Span, x: _Span) -> None:
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
        ids = self.finish(piece, True)
        done = (
            ids if ids.dtype == torch.uint8 else piece
        )  # ids take less memory; the rest is finished at its last size
        if y.start == x.start == 0:
            self.values = done.new_empty((*done.shape[:2], *self.size))
        self.values[..., y.start : y.start + done.shape[-2], columns] = done


@dataclass(eq=False)
class _Box:
    """A detection in pixels of the whole image; ``tile`` is the column and row of the tile that saw
    it.
    """

    corners: list[float]
    score: float
    label: int
    tile: tuple[int, int]


def _owned(output: DetectionOutput, y: _Span, x: _Span) -> DetectionOutput:
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


def _boxes(found: Detections, left: int, top: int, tile: tuple[int, int]) -> list[_Box]:
    corners = (found.boxes + found.boxes.new_tensor([left, top] * 2)).tolist()
    return [
        _Box(box, score, label, tile)
        for box, score, label in zip(
            corners, found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def _merged(
    boxes: list[_Box], columns: list[_Span], rows: list[_Span], device: torch.device
) -> Detections:
    """The detections of all tiles as those of one image, best first."""
    from torchvision.ops import batched_nms

    for axis, spans in enumerate((columns, rows)):
        for seam, (before, after) in enumerate(pairwise(spans)):
            boxes = _join(boxes, axis, seam, after.start, before.stop)
    corners = torch.tensor([b.corners for b in boxes], device=device).reshape(-1, 4)
    scores = torch.tensor([b.score for b in boxes], device=device)
    labels = torch.tensor([b.label for b in boxes], device=device, dtype=torch.int64)
    keep = batched_nms(corners, scores, labels, 0.6)
    return Detections(corners[keep], scores[keep], labels[keep])


def _join(boxes: list[_Box], axis: int, seam: int, low: float, high: float) -> list[_Box]:
    """Unite boxes from the two sides of a seam that agree (IoU over 0.5) between ``low`` and
    ``high``, the overlap.

    Each tile may see less of an object than there is. Across the seam the first tile knows where
    the object begins and the second where it ends; along the seam the better score decides.
    """
    firsts = [b for b in boxes if b.tile[axis] == seam]
    absorbed: set[int] = set()
    for second in boxes:
        if second.tile[axis] != seam + 1:
            continue
        for first in firsts:
            if (
                id(first) in absorbed
                or first.label != second.label
                or (axis == 0 and first.tile[1] != second.tile[1])
            ):
                continue
            if _agreement(first.corners, second.corners, axis, low, high) > 0.5:
                begin, end = first.corners[axis], second.corners[axis + 2]
                second.corners = list(max(first, second, key=lambda b: b.score).corners)
                second.corners[axis], second.corners[axis + 2] = begin, end
                second.score = max(first.score, second.score)
                absorbed.add(id(first))
    return [b for b in boxes if id(b) not in absorbed]


def _agreement(
    first: list[float], second: list[float], axis: int, low: float, high: float
) -> float:
    """IoU of the parts of two boxes between ``low`` and ``high`` along the axis."""
    areas, inner = [1.0, 1.0], 1.0
    for i in (0, 1):
        bounds = (low, high) if i == axis else (-math.inf, math.inf)
        sides = [(max(box[i], bounds[0]), min(box[i + 2], bounds[1])) for box in (first, second)]
        areas = [
            area * max(stop - start, 0) for area, (start, stop) in zip(areas, sides, strict=True)
        ]
        inner *= max(min(stop for _, stop in sides) - max(start for start, _ in sides), 0)
    union = sum(areas) - inner
    return inner / union if union > 0 else 0.0
