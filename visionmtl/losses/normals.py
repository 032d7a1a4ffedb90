"""Losses of surface normals: unit vectors (B, 3, H, W), means over the valid pixels of a batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.reduction import full_precision, masked_mean
from visionmtl.types import DenseTargets


@LOSSES.register("cosine")
class CosineNormalsLoss(TaskLoss):
    """1 - cos of the angle to the truth, in 0..2.

    Computed as |p - n|^2 / 2, which is the same number for unit vectors, cannot turn negative and
    does not cancel for small angles.
    """

    kinds: ClassVar[tuple[str, ...]] = ("normals",)

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        predicted, truth = _masked(prediction, targets)
        return masked_mean((predicted - truth).square().sum(dim=1) / 2, targets.valid, counts)


@LOSSES.register("angular")
class AngularNormalsLoss(TaskLoss):
    """The angle to the truth, in radians.

    atan2(|p x n|, p . n) has a bounded gradient for unit vectors, unlike acos(p . n). ``eps``
    rounds off the kink of |p x n| at angle 0, where the gradient would point at rounding noise; it
    is also the smallest angle returned.
    """

    kinds: ClassVar[tuple[str, ...]] = ("normals",)

    eps = 1e-6

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        predicted, truth = _masked(prediction, targets)
        cross = torch.linalg.cross(predicted, truth, dim=1)
        sine = (cross.square().sum(dim=1) + self.eps**2).sqrt()
        angle = torch.atan2(sine, (predicted * truth).sum(dim=1))
        return masked_mean(angle, targets.valid, counts)


def _masked(prediction: Tensor, targets: DenseTargets) -> tuple[Tensor, Tensor]:
    """Prediction and truth with the zero vector in both where the truth is invalid."""
    valid = targets.valid.unsqueeze(1)
    predicted = torch.where(valid, full_precision(prediction), 0.0)
    truth = torch.where(valid, targets.value, 0.0)
    return predicted, truth
