"""The geometric mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import log_losses


@WEIGHTINGS.register("gls")
class GeometricLoss(LossWeighting):
    """prod_t L_t^(1/P) over the P present tasks: weights of the mean over P L_t.

    GLS, Chennupati et al., 2019, https://arxiv.org/abs/1904.08492. Losses must be >= 0; 1e-8 is
    added to each, so that a loss of 0 has a finite weight.

    Args:
        num_tasks: T.
    """

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        logs = log_losses(losses, present)
        if not any(present):
            return logs.sum()
        return torch.exp(logs.mean())
