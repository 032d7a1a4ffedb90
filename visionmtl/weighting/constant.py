"""Fixed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from visionmtl._options import NonNegative
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import present_rows


@WEIGHTINGS.register("constant")
class ConstantWeighting(LossWeighting):
    """sum_t w_t L_t; equal weighting with all w_t = 1.

    Args:
        tasks: their names, in order.
        weights: task -> weight, 1 for a task that is missing; not all zero.

    Raises:
        ValueError: an unknown task, a negative weight, or none that is positive.
    """

    fixed = True
    weights: Tensor

    def __init__(self, tasks: Sequence[str], *, weights: Mapping[str, NonNegative] = {}) -> None:
        super().__init__(len(tasks))
        given = dict(weights)
        unknown = sorted(set(given) - set(tasks))
        if unknown:
            raise ValueError(f"weights: unknown tasks {unknown}; the run has {list(tasks)}")
        values = [float(given.get(task, 1.0)) for task in tasks]
        if not any(values):
            raise ValueError(f"weights: one must be positive, got {given}")
        self.register_buffer("weights", torch.tensor(values))

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        return present_rows(self.weights * losses, present).sum()
