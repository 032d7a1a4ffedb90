"""Weights that make all losses fall at the same rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl._options import NonNegative, Positive
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import EPSILON, RowAdam, constant_rows, present_rows, put_rows


@WEIGHTINGS.register("famo")
class FAMO(LossWeighting):
    """c sum_t z_t log(L_t - b_t + 1e-8) with z = softmax(xi) and a c so that the weights sum to 1.

    That is 1 / c = sum_t z_t / (L_t - b_t + 1e-8). After a step Adam moves the logits xi along the
    Jacobian of softmax times the fall of the log losses: a task that fell less than others gains
    weight. Liu et al., 2023, https://arxiv.org/abs/2306.03792, algorithm 2.

    The fall is that of one batch, so the paper's method costs a forward pass per step. Without it,
    the fall from a task's last step to this one is taken, with the logits of that last step: a step
    late, and noisier, as it compares two batches.

    Args:
        num_tasks: T.
        min_losses: the lowest values b_t >= 0 that the losses can have, in task order; None: 0. A
            loss under it counts as equal to it and has weight 0.
        lr: learning rate of the logits.
        weight_decay: >= 0, pulls the logits to 0, that is the z_t to equality.
        second_forward: False for the cheap variant.

    Raises:
        ValueError: an option out of its range.
    """

    combines = False  # the logits learn from a step that followed their own weights

    min_losses: Tensor
    last_losses: Tensor
    last_logits: Tensor

    def __init__(
        self,
        num_tasks: int,
        *,
        min_losses: Sequence[NonNegative] | None = None,
        lr: Positive = 0.025,
        weight_decay: NonNegative = 1e-3,
        second_forward: bool = True,
    ) -> None:
        super().__init__(num_tasks)
        floors = [0.0] * num_tasks
        if min_losses is not None:
            floors = [float(floor) for floor in min_losses]
        if len(floors) != num_tasks:
            raise ValueError(
                f"min_losses must be one number for each of {num_tasks} tasks, got {floors}"
            )
        self.weight_decay = weight_decay
        self.needs_second_forward = second_forward
        self.logits = constant_rows(0.0, num_tasks)
        self.adam = RowAdam(self.logits, lr)
        self.register_buffer("min_losses", torch.tensor(floors))
        self.register_buffer("last_losses", torch.full((num_tasks,), math.nan))
        self.register_buffer("last_logits", torch.zeros(num_tasks))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        shifted = self._shifted(losses, present)
        z = torch.softmax(present_rows(self.logits, present), dim=0)
        c = 1 / (z / shifted.detach()).sum()
        return (c * z * shifted.log()).sum()

    def after_step(self, losses: Tensor, after: Tensor | None, present: Sequence[bool]) -> None:
        current = present_rows(self.logits, present)
        if self.needs_second_forward:
            assert after is not None
            fall = self._fall(losses, after, present)
            logits = current
        else:
            fall = self._fall(self.last_losses, losses, present)
            fall = torch.where(fall.isnan(), 0.0, fall)  # a task's first step
            logits = present_rows(self.last_logits, present)
        put_rows(self.last_losses, present_rows(losses, present), present)
        put_rows(self.last_logits, current, present)
        z = torch.softmax(logits, dim=0)
        gradient = z * (fall - (z * fall).sum()) + self.weight_decay * current
        self.adam.step(gradient, present)

    def _fall(self, before: Tensor, after: Tensor, present: Sequence[bool]) -> Tensor:
        return self._shifted(before, present).log() - self._shifted(after, present).log()

    def _shifted(self, losses: Tensor, present: Sequence[bool]) -> Tensor:
        return present_rows((losses - self.min_losses).clamp(min=0), present) + EPSILON
