"""Which point of the detection head answers for which box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.types import BoxTargets

BACKGROUND = -1
"""Label of a point that answers for no box."""

IGNORED = -2
"""Label of the points of an image that is not annotated."""


@dataclass
class PointTargets:
    """Boxes by the points that answer for them.

    Attributes:
        labels: int64 (B, A), a class id, ``BACKGROUND`` or ``IGNORED``.
        distances: (B, A, 4) in pixels to the left, top, right and bottom of the point's box, 1
            where it has none.
        centerness: (B, A) in 0..1, 0 where the point has no box.
        known: bool (B, K), the classes that each annotation speaks of; None where all speak of all.
    """

    labels: Tensor
    distances: Tensor
    centerness: Tensor
    known: Tensor | None = None


def match_targets(
    targets: BoxTargets, points: Tensor, strides: Tensor, centre_radius: float
) -> PointTargets:
    """``match_points`` of every image; ``IGNORED`` where it is not annotated."""
    all_labels = []
    all_distances = []
    images = zip(targets.boxes, targets.labels, targets.annotated, strict=True)
    for boxes, box_labels, annotated in images:
        if annotated:
            labels, distances = match_points(points, strides, boxes, box_labels, centre_radius)
        else:
            labels = torch.full_like(strides, IGNORED, dtype=torch.long)
            distances = torch.ones_like(points).repeat(1, 2)
        all_labels.append(labels)
        all_distances.append(distances)
    labels = torch.stack(all_labels)
    distances = torch.stack(all_distances)
    centerness = torch.where(labels >= 0, centerness_of(distances), 0.0)
    return PointTargets(labels, distances, centerness, targets.known)


def match_points(
    points: Tensor, strides: Tensor, boxes: Tensor, labels: Tensor, centre_radius: float
) -> tuple[Tensor, Tensor]:
    """Give each point the box it answers for.

    A point may answer for a box if it lies inside it, within ``centre_radius`` strides of its
    centre in x and y, and if the largest of its four distances to the sides is one of its level's:
    in (4, 8] strides, from 0 on the finest and without bound on the coarsest level. With strides
    that double, as a pyramid's do, the ranges meet (FCOS: 64 px at stride 8). Among several boxes
    the smallest wins, among equals the first.

    Args:
        points: (A, 2), x y in pixels.
        strides: (A,).
        boxes: (N, 4), x1 y1 x2 y2 in pixels; N may be 0.
        labels: int64 (N,).
        centre_radius: in strides.

    Returns:
        Labels (A,), ``BACKGROUND`` where no box fits, and distances (A, 4) in pixels to the left,
        top, right and bottom of the box, 1 where no box fits.
    """
    # A last box that contains no point: it stands for "none" and spares the case N = 0.
    boxes = F.pad(boxes.to(points.dtype), (0, 0, 0, 1))
    labels = F.pad(labels, (0, 1))
    low = boxes[:, :2]
    high = boxes[:, 2:]
    at = points.unsqueeze(1)
    distances = torch.cat((at - low, high - at), dim=-1)  # (A, N + 1, 4)
    from_centre = (at - (low + high) / 2).abs().amax(dim=-1)
    farthest = distances.amax(dim=-1)
    lower = torch.where(strides == strides.amin(), 0.0, 4 * strides)
    upper = torch.where(strides == strides.amax(), math.inf, 8 * strides)
    fits = (
        (distances.amin(dim=-1) > 0)
        & (from_centre < centre_radius * strides.unsqueeze(1))
        & (farthest > lower.unsqueeze(1))
        & (farthest <= upper.unsqueeze(1))
    )
    area, index = torch.where(fits, (high - low).prod(dim=-1), math.inf).min(dim=1)
    positive = area < math.inf
    own = distances.gather(1, index.view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1)
    own_labels = torch.where(positive, labels[index], BACKGROUND)
    own_distances = torch.where(positive.unsqueeze(-1), own, 1.0)
    return own_labels, own_distances


def centerness_of(distances: Tensor) -> Tensor:
    """FCOS, equation 3: 1 at the box centre, 0 at its border.

    Args:
        distances: positive (..., 4), left top right bottom.

    Returns:
        (...), in 0..1.
    """
    near = torch.minimum(distances[..., :2], distances[..., 2:])
    far = torch.maximum(distances[..., :2], distances[..., 2:])
    return (near / far).prod(dim=-1).sqrt()
