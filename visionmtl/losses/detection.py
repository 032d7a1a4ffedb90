"""Loss of anchor-free detection."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from visionmtl._options import NonNegative, Positive
from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.points import IGNORED, PointTargets, match_targets
from visionmtl.losses.reduction import count_valid, divide, full_precision
from visionmtl.models.heads.detection import image_points
from visionmtl.types import BoxTargets, DetectionOutput


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
        points, strides = image_points(size, targets.boxes[0].device)
        return match_targets(targets, points, strides, self.centre_radius)

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
            targets = match_targets(
                targets, prediction.points, prediction.strides, self.centre_radius
            )
        if counts is None:
            counts = self.counts(targets)
        positives, centerness = counts
        classes = divide(self._class_loss(prediction.class_logits, targets), positives)
        boxes = divide(_box_loss(prediction.distances, targets), centerness)
        centres = divide(_centerness_loss(prediction.centerness, targets), positives)
        return (
            self.class_weight * classes + self.box_weight * boxes + self.centerness_weight * centres
        )

    def _class_loss(self, class_logits: Tensor, targets: PointTargets) -> Tensor:
        """Sum of the focal terms of annotated images; class logits (B, A, K)."""
        expected = (*targets.labels.shape, self.num_classes)
        assert class_logits.shape == expected, f"logits {class_logits.shape}"
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
    losses = targets.centerness * giou_loss(distances, targets.distances)
    return torch.where(positive, losses, 0.0).sum()


def _centerness_loss(logits: Tensor, targets: PointTargets) -> Tensor:
    """Sum of the positives' cross-entropies; logits (B, A)."""
    positive = targets.labels >= 0
    logits = torch.where(positive, full_precision(logits), 0.0)
    values = F.binary_cross_entropy_with_logits(
        logits, targets.centerness.to(logits.dtype), reduction="none"
    )
    return torch.where(positive, values, 0.0).sum()


def giou_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of boxes around the same point.

    Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630. Distances to the sides make it
    short: both boxes hold the point, so they overlap. (torchvision's indexes by a boolean mask,
    which makes the host wait for the device.)

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
    # Not prod(): its backward pass counts the zeros, for which the host waits for the device.
    return width * height
