"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl._options import Count, Positive
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import log_losses


@WEIGHTINGS.register("stch")
class STCH(LossWeighting):
    """P mu log sum_t exp(log(L_t / z_t) / mu): a smooth maximum of the relative losses.

    The sum runs over the P present tasks. Lin et al., 2024, https://arxiv.org/abs/2402.19078, in
    the form of its multi-task experiments: on log losses, times the number of tasks. The first
    ``warmup_epochs`` epochs minimise sum_t log L_t; the mean losses of the last of them are the
    z_t. A task without truth in that epoch takes its z_t from the last epoch before, or the first
    after, that has truth for it, and 1 until then. Losses must be >= 0; 1e-8 is added before the
    logarithm.

    Args:
        num_tasks: T.
        mu: > 0; a small one is close to the maximum.
        warmup_epochs: >= 1. The authors' code calls 5 epochs a warm-up of 4, as it counts them from
            0.

    Raises:
        ValueError: an option out of its range.
    """

    epochs: Tensor
    reference: Tensor

    def __init__(self, num_tasks: int, *, mu: Positive = 1.0, warmup_epochs: Count = 5) -> None:
        super().__init__(num_tasks)
        self.mu = mu
        self.warmup_epochs = warmup_epochs
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))
        self.register_buffer("reference", torch.full((num_tasks,), math.nan))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        logs = log_losses(losses, present)
        if not any(present):
            return logs.sum()
        relative = logs - log_losses(self.reference.nan_to_num(nan=1.0), present)
        smooth = len(logs) * self.mu * torch.logsumexp(relative / self.mu, dim=0)
        # Chosen on the device: no sync.
        return torch.where(self.epochs < self.warmup_epochs, logs.sum(), smooth)

    def end_epoch(self, losses: Tensor) -> None:
        wanted = (self.epochs < self.warmup_epochs) | self.reference.isnan()
        self.reference.copy_(torch.where(wanted & ~losses.isnan(), losses, self.reference))
        self.epochs += 1
