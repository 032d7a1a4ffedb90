"""UPGrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.quadratic import solve_nonnegative


@BALANCERS.register("upgrad")
class UPGrad(GradientBalancer):
    """The mean of the gradients, each projected onto the dual cone first.

    The cone is {d : <g_t, d> >= 0 for all t}. Quinton & Rey 2024, https://arxiv.org/abs/2406.16232,
    Proposition 1: the projection of g_i is
    ``sum_t v_t g_t`` with the v that minimises ``v'Gv`` over ``v >= e_i``. No task gets worse to
    first order, but for the price below; without conflict all weights are 1 / T. There is no state.

    G is divided by its trace and ``reg_eps`` is added to its diagonal, as in the authors' TorchJD,
    which makes the weights unique and bounded. The price: gradients whose squared norm is below
    ``reg_eps`` of the sum may still conflict with the result. TorchJD's ``norm_eps``, below which
    it skips the projection, is left out: here the weights do not depend on the scale of the losses.

    Args:
        reg_eps: added to the diagonal of the Gramian of unit trace.

    Raises:
        ValueError: ``reg_eps`` is not finite, or below 1e-9, where rounding would decide.
    """

    def __init__(self, *, reg_eps: Annotated[float, Field(ge=1e-9)] = 1e-4) -> None:
        super().__init__()
        self.reg_eps = reg_eps

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        exact = gramian.detach().to("cpu", torch.float64)
        unit = exact / exact.trace().clamp(min=torch.finfo(torch.float64).tiny)
        values, vectors = torch.linalg.eigh(unit)
        # R'R = G + reg_eps; rounding may have left eigenvalues of G below 0.
        root = (values.clamp(min=0) + self.reg_eps).sqrt()[:, None] * vectors.T
        projections = []
        for i, own in enumerate(torch.eye(len(exact), dtype=torch.float64)):
            # v = e_i + y with y >= 0, so v'Gv = |R y + R e_i|^2.
            projections.append(own + solve_nonnegative(root, -root[:, i]))
        return torch.stack(projections).mean(0).to(gramian)
