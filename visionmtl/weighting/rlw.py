"""Random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import present_rows


@WEIGHTINGS.register("rlw")
class RandomLossWeighting(LossWeighting):
    """sum_t w_t L_t with w = softmax(z) and new z_t ~ N(0, 1) in each step, one per present task.

    Lin et al., 2022, https://arxiv.org/abs/2111.10603, algorithm 2. As there the weights sum to 1,
    not to T. Two calls with generators in the same state have the same weights.

    Args:
        num_tasks: T.
    """

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        kept = present_rows(losses, present)
        weights = torch.softmax(torch.randn(len(kept), generator=generator), dim=0)
        return (weights.to(kept, non_blocking=True) * kept).sum()
