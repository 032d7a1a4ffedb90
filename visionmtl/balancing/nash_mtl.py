"""Nash-MTL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl._options import NonNegative
from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.quadratic import solve_power


@BALANCERS.register("nash_mtl")
class NashMTL(GradientBalancer):
    """The Nash bargaining solution: the a > 0 with ``G a = 1 / a``, elementwise.

    Navon et al. 2022, https://arxiv.org/abs/2202.01017, Claim 3.2 and Algorithm 1: the direction
    whose product of gains <g_t, d> is largest. The scale of a task's loss drops out. The direction
    has norm sqrt(T), so with the default ``max_norm`` it always has norm 1.

    The equation is solved to float64 precision in some ten Newton steps (see ``solve_power``, also
    for singular Gramians). There is no state: the authors' code, like TorchJD, needs the last
    step's weights as the start of a sequence of convex approximations, and stops before the
    solution where gradients are badly scaled.

    A single task gets weight exactly 1, plain backpropagation, instead of the formula's 1 / |g|.

    Args:
        max_norm: longest direction; a longer one is scaled down, as in the authors' code. 0
            switches this off.

    Raises:
        ValueError: ``max_norm`` is negative or not finite.
    """

    def __init__(self, *, max_norm: NonNegative = 1.0) -> None:
        super().__init__()
        self.max_norm = max_norm

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        if len(gramian) == 1:
            return torch.ones_like(gramian[0])
        host = gramian.detach().cpu()
        weights = solve_power(host, 1.0)
        if self.max_norm:
            norm = (weights @ host.double() @ weights).clamp(min=0.0).sqrt()
            weights = weights * (self.max_norm / norm).clamp(max=1.0)
        return weights.to(gramian)
