"""Projection of conflicting gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer


def in_double(gramian: Tensor) -> Tensor:
    """The Gramian in float64, on the CPU where its own device (MPS) does not know the type."""
    if gramian.device.type == "mps":
        gramian = gramian.cpu()
    return gramian.double()


def visiting_orders(num_tasks: int, generator: torch.Generator | None) -> Tensor:
    """(T, T - 1) on the CPU: row i holds the tasks other than i in a random order of its own."""
    orders = torch.stack(
        [torch.randperm(num_tasks - 1, generator=generator) for _ in range(num_tasks)]
    )
    return orders + (orders >= torch.arange(num_tasks)[:, None])


@BALANCERS.register("pcgrad")
class PCGrad(GradientBalancer):
    """PCGrad: the sum of the gradients after each lost, in turn, what opposes one of the others.

    g_i' starts as g_i and meets the unmodified g_j, j != i, in a random order of its own: where
    <g_i', g_j> < 0, g_i' -= <g_i', g_j> / |g_j|^2 g_j. The result is sum_i g_i' (Algorithm 1 of
    https://arxiv.org/abs/2001.06782): the plain sum where no two gradients conflict. Zero gradients
    are passed over.
    """

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        gram = in_double(gramian)
        rows = torch.arange(len(gram), device=gram.device)
        # g_i' = sum_k mixture[i, k] g_k
        mixture = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        orders = visiting_orders(len(gram), generator).to(gram.device, non_blocking=True)
        # All g_i' take their next step at once: others[i] is the task that g_i' meets.
        for others in orders.unbind(1):
            product = (mixture * gram[others]).sum(1)
            square = gram.diagonal()[others]
            conflict = (product < 0) & (square > 0)
            mixture[rows, others] -= torch.where(conflict, product / square, 0.0)
        return mixture.sum(0).to(gramian)
