"""The contract of a loss weighting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionmtl._registry import Registry


class LossWeighting(nn.Module):
    """Losses of T tasks -> the scalar that is minimised; what it learns is in its ``state_dict``.

    ``forward`` changes no state: it may be called for every micro-batch. What a method learns it
    learns from the three hooks below, which the engine calls with the losses of the whole step,
    equal on all processes, and from the gradient of its parameters.

    Args:
        num_tasks: T.

    Attributes:
        fixed: whether the weights are the same in every step.
        combines: whether a gradient balancer may act on the weighted gradients.
        needs_second_forward: whether ``after_step`` wants the losses of the same batch after the
            step.
        needs_gramian: whether ``observe_gramian`` wants the Gramian of the unweighted task
            gradients.
    """

    fixed: ClassVar[bool] = False
    combines: ClassVar[bool] = True
    needs_gramian: ClassVar[bool] = False
    needs_second_forward: bool = False

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks must be at least 1, got {num_tasks}")
        self.num_tasks = num_tasks

    def forward(
        self, losses: Tensor, present: Sequence[bool], generator: torch.Generator | None = None
    ) -> Tensor:
        """The weighted loss; its derivatives by ``losses`` are the weights of the task gradients.

        Args:
            losses: (T,) in task order.
            present: per task, whether the step has truth for it; host booleans. A row that is not
                present carries a zero loss: it is left out, as if the task did not exist.
            generator: source of random choices, on the CPU, the same for every call of a step; None
                is torch's own.

        Returns:
            A scalar; 0 with a graph where no task is present.
        """
        raise NotImplementedError

    def after_step(self, losses: Tensor, after: Tensor | None, present: Sequence[bool]) -> None:
        """Called after each optimiser step, without gradient.

        Args:
            losses: (T,) the losses of the step.
            after: (T,) those of the same batch and the new parameters where
                ``needs_second_forward``, else None.
            present: as in ``forward``.
        """

    def observe_gramian(self, gramian: Tensor, losses: Tensor, present: Sequence[bool]) -> None:
        """Called before each optimiser step where ``needs_gramian``, without gradient.

        Args:
            gramian: (P, P) of the unweighted gradients of the P present tasks.
            losses: (T,) the losses of the step.
            present: as in ``forward``; P of them are True.
        """

    def end_epoch(self, losses: Tensor) -> None:
        """Called after each epoch, without gradient.

        Args:
            losses: (T,) the means of the epoch, NaN for a task without truth.
        """


WEIGHTINGS: Registry[LossWeighting] = Registry("weighting")
"""Name in a config -> class; ``num_tasks`` or the names of the ``tasks`` come from the run."""
