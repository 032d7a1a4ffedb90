"""Impartial multi-task learning, its gradient part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer


@BALANCERS.register("imtl_g")
class IMTLG(GradientBalancer):
    """IMTL-G: the weighted sum g of the gradients with the same projection on all of them.

    That is, all <g, g_t> / |g_t| are equal, with sum_t w_t = 1 (Section 3.1 of
    https://openreview.net/forum?id=IMPnRXEWpvr); weights may be negative, and are large where they
    nearly cancel. For two tasks w ~ (|g_2|, |g_1|). Dependent gradients, such as opposite ones, may
    leave only g = 0; TorchJD then takes the least-squares direction, which is no limit of the
    paper's.

    Where the paper divides by zero: of several solutions the one with small parts w_t g_t is taken,
    and the least-squares one where there is none; a zero gradient gets weight 0; where the weights
    cannot be scaled to the sum 1 (no gradient at all, or their sum is 0) all are 1 / T.
    """

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        gram = gramian.cpu().double()
        num_tasks = len(gram)
        eps = torch.finfo(gramian.dtype).eps
        lengths = gram.diagonal().clamp(min=0).sqrt()
        present = lengths > 0
        inverse = torch.where(present, 1 / lengths, 0.0)
        # Unknown are the lengths u_t of the parts w_t g_t and the projection p: cosines @ u = p,
        # sum_t u_t / |g_t| = 1.
        system = gram.new_zeros(num_tasks + 1, num_tasks + 1)
        system[:-1, :-1] = inverse[:, None] * gram * inverse
        system.diagonal()[:-1] = 1.0
        system[:-1, -1] = torch.where(present, -1.0, 0.0)
        system[-1, :-1] = inverse / inverse.max().clamp(min=torch.finfo(gram.dtype).tiny)
        right = gram.new_zeros(num_tasks + 1, 1)
        right[-1] = 1.0
        cutoff = (num_tasks + 1) * eps
        solution = torch.linalg.lstsq(system, right, rcond=cutoff, driver="gelsd").solution
        parts: Tensor = solution[:-1, 0]
        weights = parts * system[-1, :-1]
        total = weights.sum()
        if total.abs() <= eps * weights.abs().sum():
            return gramian.new_full((num_tasks,), 1 / num_tasks)
        return (weights / total).to(gramian)
