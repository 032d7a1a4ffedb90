"""Fixed weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.weighting.base import LossWeighting


class ConstantWeighting(LossWeighting):
    """sum_t w_t * loss_t over the present tasks; equal weighting with all w_t = 1.

    Args:
        weights: one finite number >= 0 per task, in task order, not all zero.

    Raises:
        ValueError: a negative or non-finite weight, or none that is positive.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(len(weights))
        if not all(0 <= w < math.inf for w in weights) or not any(weights):
            raise ValueError(f"weights must be finite, >= 0 and not all zero, got {list(weights)}")
        self.register_buffer("weights", torch.tensor([float(w) for w in weights]))

    def forward(self, losses: Tensor, present: Sequence[bool]) -> Tensor:
        rows = (self.weights * losses).unbind()
        kept = [row for row, here in zip(rows, present, strict=True) if here]
        return torch.stack(kept or rows).sum()  # with no task present every row is a zero: keep their graph
