"""Weights from how fast the losses fell in the last epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl._options import Positive
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import present_rows


@WEIGHTINGS.register("dwa")
class DynamicWeightAverage(LossWeighting):
    """sum_t w_t L_t with w = P softmax(r / temperature) over the P present tasks; the w_t sum to P.

    r_t is the mean loss of the last epoch over that of the epoch before: a task that falls slowly
    weighs more. Liu et al., 2019, https://arxiv.org/abs/1803.10704, equation 7. An epoch without
    truth for a task does not count for it. Until a task has two epochs, and where the ratio is not
    finite, r_t is 1: the first two epochs have equal weights.

    Args:
        num_tasks: T.
        temperature: > 0; a large one makes the weights equal.

    Raises:
        ValueError: a temperature out of its range.
    """

    latest: Tensor
    earlier: Tensor

    def __init__(self, num_tasks: int, *, temperature: Positive = 2.0) -> None:
        super().__init__(num_tasks)
        self.temperature = temperature
        self.register_buffer("latest", torch.full((num_tasks,), math.nan))
        self.register_buffer("earlier", torch.full((num_tasks,), math.nan))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        rates = torch.nan_to_num(self.latest / self.earlier, nan=1.0, posinf=1.0, neginf=1.0)
        weights = torch.softmax(present_rows(rates, present) / self.temperature, dim=0)
        return (len(weights) * weights * present_rows(losses, present)).sum()

    def end_epoch(self, losses: Tensor) -> None:
        known = ~losses.isnan()
        self.earlier.copy_(torch.where(known, self.latest, self.earlier))
        self.latest.copy_(torch.where(known, losses, self.latest))
