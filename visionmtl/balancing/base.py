"""The contract of a gradient balancer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionmtl._registry import Registry


class GradientBalancer(nn.Module):
    """Gramian of T task gradients -> T weights; the direction of the step is sum_t w_t g_t.

    A balancer knows neither parameters nor model. What it remembers from step to step is in its
    ``state_dict``.
    """

    def __init__(self) -> None:  # nn.Module would take any options
        super().__init__()

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        """The weights.

        Args:
            gramian: (T, T), ``gramian[i, j] = <g_i, g_j>``, of the tasks that the step has truth
                for; finite.
            generator: source of random choices, on the CPU; None is torch's own. Equal on all
                processes.
            tasks: which of the run's tasks the rows are; None means 0..T-1. Only methods with a
                memory read it.

        Returns:
            (T,), of the Gramian's type and device.
        """
        raise NotImplementedError


BALANCERS: Registry[GradientBalancer] = Registry("balancer")
"""Name in a config -> class."""
