"""Fixed weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.weighting.base import LossWeighting
from visionmtl.weighting.rows import present_rows


class ConstantWeighting(LossWeighting):
    """sum_t w_t L_t; equal weighting with all w_t = 1.

    Args:
        num_tasks: T.
        weights: one finite number >= 0 per task, in task order, not all zero; None: all 1.

    Raises:
        ValueError: not one weight per task, a negative or non-finite weight, or none that is
            positive.
    """

    weights: Tensor

    def __init__(self, num_tasks: int, *, weights: Sequence[float] | None = None) -> None:
        super().__init__(num_tasks)
        values = [1.0] * num_tasks if weights is None else [float(w) for w in weights]
        if len(values) != num_tasks:
            raise ValueError(
                f"weights must have one number for each of {num_tasks} tasks, got {values}"
            )
        if not all(0 <= w < math.inf for w in values) or not any(values):
            raise ValueError(f"weights must be finite, >= 0 and not all zero, got {values}")
        self.register_buffer("weights", torch.tensor(values))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        return present_rows(self.weights * losses, present).sum()
