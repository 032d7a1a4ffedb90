"""FairGrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.quadratic import solve_power


@BALANCERS.register("fairgrad")
class FairGrad(GradientBalancer):
    """Alpha-fair gains: the w > 0 with ``G w = w ** (-1 / alpha)``, elementwise.

    Ban & Ji 2024, https://arxiv.org/abs/2402.15638, equation 4: the direction with the largest
    total alpha-fair utility of the gains <g_t, d>. The larger alpha, the more it favours the task
    that gains least. Solved to float64 precision (see ``solve_power``, also for singular Gramians),
    so there is no state.

    As in the paper the direction is not normalised: where all gradients are s times as long, it is
    ``s ** ((1 - alpha) / (1 + alpha))`` times as long. For alpha > 1 short gradients give long
    directions.

    A single task gets weight exactly 1, plain backpropagation, instead of the formula's power of
    its norm.

    Args:
        alpha: between 0.5 and 10; 1 is proportional fairness, the direction of Nash-MTL. The
            authors tune it per data set; 2 in the runs they published.

    Raises:
        ValueError: ``alpha`` is outside that range.
    """

    def __init__(self, *, alpha: Annotated[float, Field(ge=0.5, le=10)] = 2.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        if len(gramian) == 1:
            return torch.ones_like(gramian[0])
        return solve_power(gramian.detach().cpu(), 1 / self.alpha).to(gramian)
