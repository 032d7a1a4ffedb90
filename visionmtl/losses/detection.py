"""Loss of anchor-free detection: which point answers for which box, and what it pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from visionmtl._options import NonNegative, Positive
from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.reduction import count_valid, divide, full_precision
from visionmtl.models.heads.detection import image_points
from visionmtl.types import BoxTargets, DetectionOutput

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


@LOSSES.register("fcos")
class FCOSLoss(TaskLoss):
    """Focal loss of the classes, GIoU loss of the boxes and cross-entropy of the centreness.

    Tian et al., FCOS, 2019, https://arxiv.org/abs/1904.01355, with the improvements of its 2020
    version, https://arxiv.org/abs/2006.09214: positives near the box centre only, and boxes
    weighted by their centreness. Focal and centreness terms are divided by the number of positive
    points of the batch, the box term by the sum of the positives' centreness. Images that are not
    annotated take no part; annotated ones without boxes are all background. Where an annotation
    speaks of some classes only (``known``), objects of the others are neither boxes nor background.

    Args:
        num_classes: K.
        centre_radius: a point is positive within this many strides of its box centre, in x and in
            y.
        class_weight: factor of the focal term (alpha 0.25, gamma 2).
        box_weight: factor of the box term.
        centerness_weight: factor of the centreness term.
    """

    kinds: ClassVar[tuple[str, ...]] = ("detection",)
    num_counts = 2

    def __init__(
        self,
        num_classes: int,
        *,
        centre_radius: Positive = 1.5,
        class_weight: NonNegative = 1.0,
        box_weight: NonNegative = 1.0,
        centerness_weight: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.centre_radius = centre_radius
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.centerness_weight = centerness_weight

    def prepare(self, targets: BoxTargets, size: tuple[int, int]) -> PointTargets:
        """Match the boxes to the points of the head."""
        return self._match(targets, *image_points(size, targets.boxes[0].device))

    def counts(self, targets: PointTargets) -> Tensor:
        """The number of positive points, and the sum of their centreness."""
        return torch.stack([count_valid(targets.labels >= 0), targets.centerness.sum()])

    def forward(
        self,
        prediction: DetectionOutput,
        targets: BoxTargets | PointTargets,
        counts: Tensor | None = None,
    ) -> Tensor:
        if isinstance(targets, BoxTargets):
            targets = self._match(targets, prediction.points, prediction.strides)
        positives, centerness = self.counts(targets) if counts is None else counts
        return (
            self.class_weight
            * divide(self._class_loss(prediction.class_logits, targets), positives)
            + self.box_weight * divide(_box_loss(prediction.distances, targets), centerness)
            + self.centerness_weight
            * divide(_centerness_loss(prediction.centerness, targets), positives)
        )

    def _match(self, targets: BoxTargets, points: Tensor, strides: Tensor) -> PointTargets:
        """``match_points`` of every image; ``IGNORED`` where it is not annotated."""
        matches = [
            match_points(points, strides, boxes, labels, self.centre_radius)
            if annotated
            else (
                torch.full_like(strides, IGNORED, dtype=torch.long),
                torch.ones_like(points).repeat(1, 2),
            )
            for boxes, labels, annotated in zip(
                targets.boxes, targets.labels, targets.annotated, strict=True
            )
        ]
        labels, distances = (torch.stack(parts) for parts in zip(*matches, strict=True))
        return PointTargets(
            labels,
            distances,
            torch.where(labels >= 0, centerness_of(distances), 0.0),
            targets.known,
        )

    def _class_loss(self, class_logits: Tensor, targets: PointTargets) -> Tensor:
        """Sum of the focal terms of annotated images; class logits (B, A, K)."""
        assert class_logits.shape == (*targets.labels.shape, self.num_classes), (
            f"logits {class_logits.shape}"
        )
        valid = (targets.labels != IGNORED).unsqueeze(-1)
        if targets.known is not None:
            valid = valid & targets.known.unsqueeze(1)
        logits = torch.where(valid, full_precision(class_logits), 0.0)
        truth = targets.labels.unsqueeze(-1) == torch.arange(self.num_classes, device=logits.device)
        focal: Tensor = sigmoid_focal_loss(logits, truth.to(logits.dtype), alpha=0.25, gamma=2.0)
        return torch.where(valid, focal, 0.0).sum()


def _box_loss(distances: Tensor, targets: PointTargets) -> Tensor:
    """Sum of the positives' GIoU losses, weighted by their centreness; distances (B, A, 4)."""
    positive = targets.labels >= 0
    # 1 px for every point that has no box: GIoU and its gradient stay finite whatever the head says
    # there.
    distances = torch.where(positive.unsqueeze(-1), full_precision(distances), 1.0)
    return torch.where(
        positive, targets.centerness * giou_loss(distances, targets.distances), 0.0
    ).sum()


def _centerness_loss(logits: Tensor, targets: PointTargets) -> Tensor:
    """Sum of the positives' cross-entropies; logits (B, A)."""
    positive = targets.labels >= 0
    logits = torch.where(positive, full_precision(logits), 0.0)
    values = F.binary_cross_entropy_with_logits(
        logits, targets.centerness.to(logits.dtype), reduction="none"
    )
    return torch.where(positive, values, 0.0).sum()


def match_points(
    points: Tensor, strides: Tensor, boxes: Tensor, labels: Tensor, centre_radius: float
) -> tuple[Tensor, Tensor]:
    """Gives each point the box it answers for.

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
    boxes, labels = F.pad(boxes.to(points.dtype), (0, 0, 0, 1)), F.pad(labels, (0, 1))
    low, high = boxes[:, :2], boxes[:, 2:]
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
    return torch.where(positive, labels[index], BACKGROUND), torch.where(
        positive.unsqueeze(-1), own, 1.0
    )


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


def giou_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of boxes around the same point (Rezatofighi et al., 2019,
    https://arxiv.org/abs/1902.09630).

    Distances to the sides make it short: both boxes hold the point, so they overlap. (torchvision's
    indexes by a boolean mask, which makes the host wait for the device.)

    Args:
        predicted: positive (..., 4), left top right bottom in pixels.
        truth: as ``predicted``.

    Returns:
        (...), in 0..2.
    """
    overlap = _area(torch.minimum(predicted, truth))
    hull = _area(torch.maximum(predicted, truth))
    union = _area(predicted) + _area(truth) - overlap
    return 1 - overlap / union + (hull - union) / hull


def _area(distances: Tensor) -> Tensor:
    width, height = (distances[..., :2] + distances[..., 2:]).unbind(dim=-1)
    return (
        width * height
    )  # not prod(): its backward pass counts the zeros, for which the host waits for the device
