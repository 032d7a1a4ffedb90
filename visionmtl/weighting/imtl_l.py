"""Weights that make all weighted losses equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import present_rows


@WEIGHTINGS.register("imtl_l")
class IMTLL(LossWeighting):
    """sum_t exp(s_t) L_t - s_t with learnt scales s_t, 0 at the start.

    The loss balance of IMTL, Liu et al., 2021, https://openreview.net/forum?id=IMPnRXEWpvr, section
    3.2: at the optimum of s_t every weighted loss exp(s_t) L_t is 1. Losses must be >= 0.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        # One parameter per task: that of an absent task then has no gradient, and a momentum does
        # not move it.
        self.log_scales = nn.ParameterList(torch.zeros(()) for _ in range(num_tasks))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        s = present_rows(self.log_scales, present)
        return (torch.exp(s) * present_rows(losses, present) - s).sum()
