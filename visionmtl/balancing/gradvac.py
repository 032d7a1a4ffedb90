"""Gradient vaccine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from visionmtl._options import Fraction
from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.pcgrad import in_double, visiting_orders

LARGEST_TARGET = 0.98
"""Cosine that a pair is brought to at most."""


@BALANCERS.register("gradvac")
class GradVac(GradientBalancer):
    """GradVac: PCGrad with a target cosine per pair of tasks in place of 0.

    The targets follow what was seen.

    g_i' starts as g_i and meets the unmodified g_j, j != i, in a random order of its own. Where
    their cosine phi lies below the pair's target t, ``g_i' += |g_i'| (t sqrt(1 - phi^2) - phi
    sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) g_j``, which makes it t; then ``t += beta (phi - t)``.
    Targets start at 0, so that the first step is PCGrad. The result is sum_i g_i' (Section 4 of
    https://arxiv.org/abs/2010.05874, over all shared parameters at once).

    Pairs without a cosine (a zero gradient) are passed over, their target stays. Targets act as if
    |t| were at most 0.98 (11 degrees): a correction then makes g_i' at most 5 times as long. Pairs
    that were parallel for long and then are not would otherwise have near infinite weights, which
    multiply from one g_j to the next.

    Args:
        beta: share of the new cosine in the running mean, in [0, 1]; 0 is PCGrad, the default is
            that of TorchJD.

    Raises:
        ValueError: ``beta`` outside [0, 1].
    """

    def __init__(self, *, beta: Fraction = 0.5) -> None:
        super().__init__()
        self.beta = beta
        # [i, j] of the run's tasks; grows to the last one met.
        self._targets = torch.zeros(0, 0, dtype=torch.float64)

    def get_extra_state(self) -> Tensor:
        return self._targets.clone()

    def set_extra_state(self, state: Tensor) -> None:
        self._targets = state.clone()

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        gram = in_double(gramian)
        if tasks is None:
            tasks = range(len(gram))
        pairs = self._pairs(tasks, gram.device)
        targets = self._targets[pairs]
        rows = torch.arange(len(gram), device=gram.device)
        # g_i' = sum_k mixture[i, k] g_k
        mixture = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        rounding = torch.finfo(gramian.dtype).eps * gram.diagonal()
        orders = visiting_orders(len(gram), generator).to(gram.device, non_blocking=True)
        # All g_i' take their next step at once: others[i] is the task that g_i' meets.
        for others in orders.unbind(1):
            products = mixture @ gram
            square = (products * mixture).sum(1)
            length = square.clamp(min=0).sqrt()
            other_length = gram.diagonal()[others].clamp(min=0).sqrt()
            defined = (square > rounding) & (other_length > 0)
            cosine = (products[rows, others] / (length * other_length)).clamp(-1, 1)
            target = targets[rows, others]
            bounded = target.clamp(-LARGEST_TARGET, LARGEST_TARGET)
            step = length / other_length * _correction(cosine, bounded)
            mixture[rows, others] += torch.where(defined & (cosine < bounded), step, 0.0)
            targets[rows, others] += torch.where(defined, self.beta * (cosine - target), 0.0)
        self._targets[pairs] = targets
        return mixture.sum(0).to(gramian)

    def _pairs(self, tasks: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """The index of the tasks' (T, T) targets, for which room is made."""
        missing = max(0, max(tasks) + 1 - len(self._targets))
        self._targets = F.pad(self._targets.to(device), (0, missing, 0, missing))
        index = torch.tensor(list(tasks)).to(device, non_blocking=True)
        return index[:, None], index


def _correction(cosine: Tensor, target: Tensor) -> Tensor:
    """How much of g_j, both of unit length, gives g_i' the target cosine."""
    sine = (1 - cosine.square()).sqrt()
    target_sine = (1 - target.square()).sqrt()
    return target * sine / target_sine - cosine
