"""Weights that make the norms of the task gradients follow the rates of learning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl._options import NonNegative, Positive
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import EPSILON, RowAdam, constant_rows, present_rows, put_rows

_SMALLEST = 1e-4
"""Lowest weight after a step, before the weights are scaled to their sum."""


@WEIGHTINGS.register("gradnorm")
class GradNorm(LossWeighting):
    """sum_t w_t L_t, where Adam moves w down the slope of sum_t |G_t - mean(G) r_t^alpha|.

    The w_t sum to T. G_t = w_t |g_t| is the norm of the weighted gradient of task t by the shared
    parameters, and r_t is L_t over the task's first loss, over the mean of these ratios: a task
    that learns slowly is to have the larger gradient. Chen et al., 2018,
    https://arxiv.org/abs/1711.02257, equation 2; mean(G) r_t^alpha is a constant there and here. A
    task that is not present keeps its weight, and the present ones keep their sum.

    Args:
        num_tasks: T.
        alpha: >= 0, the strength: 0 asks for equal norms.
        lr: learning rate of the weights.

    Raises:
        ValueError: an option out of its range.
    """

    combines = False  # the weights learn from a step that followed them
    needs_gramian = True

    first_losses: Tensor

    def __init__(self, num_tasks: int, *, alpha: NonNegative = 1.5, lr: Positive = 0.025) -> None:
        super().__init__(num_tasks)
        self.alpha = alpha
        self.weights = constant_rows(1.0, num_tasks)
        self.adam = RowAdam(self.weights, lr)
        self.register_buffer("first_losses", torch.full((num_tasks,), math.nan))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        return (present_rows(self.weights, present) * present_rows(losses, present)).sum()

    def observe_gramian(self, gramian: Tensor, losses: Tensor, present: Sequence[bool]) -> None:
        now = present_rows(losses, present)
        first = present_rows(self.first_losses, present)
        first = torch.where(first.isnan(), now, first)
        put_rows(self.first_losses, first, present)
        ratios = (now + EPSILON) / (first + EPSILON)
        rates = ratios / ratios.mean()

        weights = present_rows(self.weights, present)
        norms = gramian.diagonal().clamp(min=0).sqrt()
        weighted = weights * norms
        gradient = norms * torch.sign(weighted - weighted.mean() * rates**self.alpha)
        self.adam.step(gradient, present)
        moved = present_rows(self.weights, present).clamp(min=_SMALLEST)
        absent = present_rows(self.weights, [not here for here in present])
        put_rows(self.weights, moved * ((self.num_tasks - absent.sum()) / moved.sum()), present)
