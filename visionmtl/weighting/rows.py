"""What the methods share: the rows of the present tasks, their logarithms, and an optimiser for
some of T numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to losses before a logarithm or a quotient: a loss of 0 stays finite."""


def present_rows(values: Iterable[Tensor], present: Sequence[bool]) -> Tensor:
    """The rows (P,) of ``values`` (T,) that are present, chosen on the host; (0,) with a graph
    where none is.

    Rows that are left out get the gradient 0, or none at all if they are parameters of their own.
    """
    rows = list(values)
    kept = [row for row, here in zip(rows, present, strict=True) if here]
    return torch.stack(kept) if kept else torch.stack(rows)[:0]


def log_losses(losses: Tensor, present: Sequence[bool]) -> Tensor:
    """log(L_t + EPSILON) of the present tasks, (P,)."""
    return torch.log(present_rows(losses, present) + EPSILON)


def put_rows(buffer: Tensor, rows: Tensor, present: Sequence[bool]) -> None:
    """Write ``rows`` (P,) to the present rows of ``buffer`` (T,): the inverse of
    ``present_rows``.
    """
    slots = [slot for slot, here in zip(buffer.unbind(), present, strict=True) if here]
    for slot, row in zip(slots, rows.unbind(), strict=True):
        slot.copy_(row)


class RowAdam(nn.Module):
    """Adam for T numbers of which a step moves only some: each has its own moments and its own
    count of steps.

    Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980. ``torch.optim.Adam`` would let the
    momentum move absent rows, and its state is not part of a module's.

    Args:
        size: T.
        lr: the learning rate, finite and > 0.

    Raises:
        ValueError: a learning rate out of its range.
    """

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, size: int, lr: float) -> None:
        super().__init__()
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be finite and > 0, got {lr}")
        self.lr = lr
        for name in ("mean", "square", "steps"):
            self.register_buffer(name, torch.zeros(size))

    def step(self, values: Tensor, gradient: Tensor, present: Sequence[bool]) -> None:
        """Move the present rows of ``values`` (T,) in place, against ``gradient`` (P,)."""
        gradient = gradient.to(self.mean)
        mean = present_rows(self.mean, present).lerp(gradient, 0.1)
        square = present_rows(self.square, present).lerp(gradient.square(), 0.001)
        steps = present_rows(self.steps, present) + 1
        put_rows(self.mean, mean, present)
        put_rows(self.square, square, present)
        put_rows(self.steps, steps, present)
        mean = mean / -torch.expm1(
            steps * math.log(0.9)
        )  # expm1: 1 - 0.999^1 has four digits in float32
        square = square / -torch.expm1(steps * math.log(0.999))
        put_rows(
            values, present_rows(values, present) - self.lr * mean / (square.sqrt() + 1e-8), present
        )
