"""The contract of a loss weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LossWeighting(nn.Module):
    """Turns the losses of T tasks into the scalar that is minimised; what it learns is in its ``state_dict``.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks

    def forward(self, losses: Tensor, present: Sequence[bool]) -> Tensor:
        """The weighted sum.

        Args:
            losses: (T,) in task order.
            present: per task, whether the batch has truth for it; host booleans. A row that is not present carries a
                zero loss: a method that a zero would bend (a logarithm, a product, a learnt weight) has to drop it.

        Returns:
            A scalar.
        """
        raise NotImplementedError
