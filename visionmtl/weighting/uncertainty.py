"""Weights from learnt task uncertainties."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import present_rows


@WEIGHTINGS.register("uncertainty")
class UncertaintyWeighting(LossWeighting):
    """sum_t exp(-s_t) L_t + s_t / 2 with learnt log-variances s_t = log sigma_t^2, 0 at the start.

    Kendall et al., 2018, https://arxiv.org/abs/1705.07115, equation 10. The paper halves the first
    term for regression; here every task has the form of its classification tasks, so that training
    starts from equal weights. The factor only shifts s_t, by log 2: the optimum is exp(-s_t) = 1 /
    (2 L_t) instead of 1 / L_t.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        # One parameter per task: that of an absent task then has no gradient, and a momentum does
        # not move it.
        self.log_variances = nn.ParameterList(torch.zeros(()) for _ in range(num_tasks))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        s = present_rows(self.log_variances, present)
        return (torch.exp(-s) * present_rows(losses, present) + s / 2).sum()
