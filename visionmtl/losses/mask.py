"""Loss of saliency and edges: logits (B, 1, H, W) against 0 and 1 (B, H, W)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.reduction import count_valid, divide, full_precision
from visionmtl.types import DenseTargets

OpenFraction = Annotated[float, Field(gt=0, lt=1)]


@LOSSES.register("balanced_bce")
class BalancedBCELoss(TaskLoss):
    """Binary cross-entropy, (w * sum over positives + (1 - w) * sum over negatives) / pixels.

    The pixels are the valid ones. By default w is the share of negatives among the valid pixels of
    the batch, so that positives and negatives weigh the same: Xie and Tu, HED, 2015,
    https://arxiv.org/abs/1504.06375, equation 2, there for each image. So saliency is trained on
    PASCAL-Context since Maninis et al., 2019, https://arxiv.org/abs/1904.08918. A batch that has
    only positives, or only negatives, then teaches nothing: its loss is 0.

    Args:
        positive_weight: w in (0, 1); None balances. 0.5 is half the plain cross-entropy.
    """

    kinds: ClassVar[tuple[str, ...]] = ("saliency", "edge")
    num_counts = 2

    def __init__(self, *, positive_weight: OpenFraction | None = None) -> None:
        super().__init__()
        self.positive_weight = positive_weight

    def counts(self, targets: DenseTargets) -> Tensor:
        """The positives and the negatives among the valid pixels."""
        positive = targets.valid & (targets.value > 0)
        return torch.stack([count_valid(positive), count_valid(targets.valid & ~positive)])

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        if counts is None:
            counts = self.counts(targets)
        positives, negatives = counts
        pixels = positives + negatives
        weight = self._weight(negatives, pixels)
        logits = torch.where(targets.valid, full_precision(prediction).squeeze(1), 0.0)
        positive = targets.value > 0
        values = F.binary_cross_entropy_with_logits(
            logits, positive.to(logits.dtype), reduction="none"
        )
        weighted = torch.where(positive, weight, 1 - weight) * values
        return divide(torch.where(targets.valid, weighted, 0.0).sum(), pixels)

    def _weight(self, negatives: Tensor, pixels: Tensor) -> Tensor | float:
        if self.positive_weight is None:
            return divide(negatives, pixels)
        return self.positive_weight


@LOSSES.register("edge_bce")
class EdgeBCELoss(BalancedBCELoss):
    """``BalancedBCELoss`` with a fixed weight.

    0.95 is usual on PASCAL-Context (https://arxiv.org/abs/2004.13379).
    """

    kinds: ClassVar[tuple[str, ...]] = ("edge",)

    def __init__(self, *, positive_weight: OpenFraction | None = 0.95) -> None:
        super().__init__(positive_weight=positive_weight)
