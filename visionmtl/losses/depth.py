"""Losses of depth: predictions and targets (B, 1, H, W) in metres, means over valid pixels.

The L1 loss serves disparity, too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from visionmtl._options import Fraction, Positive
from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.reduction import divide, full_precision, masked_mean
from visionmtl.types import DenseTargets

MIN_DEPTH = 1e-3
"""Metres. Logarithms are taken of no less, which bounds their gradient."""

MIN_THRESHOLD = 1e-6
"""Metres. The berHu threshold is no less, which keeps it finite where every error is zero."""


@LOSSES.register("l1")
class DepthL1Loss(TaskLoss):
    """Mean absolute error, in metres; of disparities in their own unit."""

    kinds: ClassVar[tuple[str, ...]] = ("depth", "disparity")

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        predicted, truth, valid = _masked(prediction, targets)
        return masked_mean((predicted - truth).abs(), valid, counts)


@LOSSES.register("berhu")
class BerHuLoss(TaskLoss):
    """Reverse Huber: |e| up to c, (e^2 + c^2) / 2c beyond, with c = ``threshold`` * max |e|.

    The largest error is that of the batch. Laina et al., 2016, https://arxiv.org/abs/1606.00373,
    equation 1. No gradient flows through c. Each part of a batch that comes in parts has a c of its
    own; the mean runs over the whole.

    Args:
        threshold: share of the largest error, in (0, 1].
    """

    kinds: ClassVar[tuple[str, ...]] = ("depth",)

    def __init__(self, *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.2) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        predicted, truth, valid = _masked(prediction, targets)
        error = (predicted - truth).abs()
        c = (self.threshold * error.detach().amax()).clamp(min=MIN_THRESHOLD)
        values = torch.where(error <= c, error, (error.square() + c.square()) / (2 * c))
        return masked_mean(values, valid, counts)


@LOSSES.register("silog")
class SILogLoss(TaskLoss):
    """Scale-invariant log error: alpha * sqrt(mean(d^2) - variance_focus * mean(d)^2).

    The difference d is log p - log g. The term under the root is Eigen et al., 2014,
    https://arxiv.org/abs/1406.2283, equation 4 (there lambda = 0.5). Root and defaults are those of
    BTS, Lee et al., 2019, https://arxiv.org/abs/1907.10326, and of what followed it. The means run
    over all valid pixels of the batch. Depths below 1 mm count as 1 mm. A batch that comes in parts
    has the mean of their losses, weighted by their shares of the valid pixels.

    Args:
        variance_focus: lambda in [0, 1]; 0 is the root mean square log error, 1 ignores a common
            scale altogether.
        alpha: positive factor.
    """

    kinds: ClassVar[tuple[str, ...]] = ("depth",)

    def __init__(self, *, variance_focus: Fraction = 0.85, alpha: Positive = 10.0) -> None:
        super().__init__()
        self.variance_focus = variance_focus
        self.alpha = alpha

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        predicted, truth, valid = _masked(prediction, targets)
        d = predicted.clamp(min=MIN_DEPTH).log() - truth.clamp(min=MIN_DEPTH).log()
        mean = masked_mean(d, valid)
        # mean(d^2) = variance + mean^2; summed this way the radicand cannot round below zero.
        variance = masked_mean((d - mean).square(), valid)
        radicand = variance + (1 - self.variance_focus) * mean.square()
        # The root's slope at exactly 0 is infinite. `== 0`, not `> 0`: NaN has to pass.
        zero = radicand == 0
        loss = self.alpha * torch.where(zero, 0.0, torch.where(zero, 1.0, radicand).sqrt())
        if counts is None:
            return loss
        return loss * divide(self.counts(targets), counts).squeeze(0)


def _masked(prediction: Tensor, targets: DenseTargets) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction and truth with 1 m in both where it is invalid, and ``valid``; (B, 1, H, W)."""
    valid = targets.valid.unsqueeze(1)
    predicted = torch.where(valid, full_precision(prediction), 1.0)
    truth = torch.where(valid, targets.value, 1.0)
    return predicted, truth, valid
