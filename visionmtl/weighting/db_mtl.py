"""The logarithm of each loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.rows import log_losses


@WEIGHTINGS.register("db_mtl")
class DBMTLLog(LossWeighting):
    """sum_t log(L_t + 1e-8): weights 1 / L_t, so that the scale of a loss plays no part.

    The loss balance of DB-MTL, Lin et al., 2023, https://arxiv.org/abs/2308.12029, section 3.1.
    Losses must be >= 0.

    Args:
        num_tasks: T.
    """

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        return log_losses(losses, present).sum()
