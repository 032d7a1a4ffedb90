"""Multiple-gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.simplex import min_norm_weights


@BALANCERS.register("mgda")
class MGDA(GradientBalancer):
    """MGDA: the shortest vector in the convex hull of the gradients, which lowers all losses alike.

    min_w |sum_t w_t g_t|^2 with w >= 0, sum_t w_t = 1 (Eq. 3 of https://arxiv.org/abs/1810.04650),
    solved exactly where the paper and TorchJD take a number of Frank-Wolfe steps. It is the zero
    vector at a Pareto-stationary point, thus also where one gradient is zero, and small tasks rule:
    for orthogonal gradients w_t ~ 1 / |g_t|^2.
    """

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        return min_norm_weights(gramian.cpu().double()).to(gramian)
