"""What the methods share: the rows of the present tasks, and an optimiser for one number each."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to losses before a logarithm or a quotient: a loss of 0 stays finite."""


def present_rows(values: Iterable[Tensor], present: Sequence[bool]) -> Tensor:
    """The rows (P,) of ``values`` (T,) that are present, chosen on the host.

    Where none is they are (0,), with a graph. Rows that are left out get the gradient 0, or none at
    all if they are parameters of their own.
    """
    rows = list(values)
    kept = _chosen(rows, present)
    if not kept:
        return torch.stack(rows)[:0]
    return torch.stack(kept)


def log_losses(losses: Tensor, present: Sequence[bool]) -> Tensor:
    """log(L_t + EPSILON) of the present tasks, (P,)."""
    return torch.log(present_rows(losses, present) + EPSILON)


def put_rows(values: Iterable[Tensor], rows: Tensor, present: Sequence[bool]) -> None:
    """Write ``rows`` (P,) to the present rows of ``values`` (T,): undoes ``present_rows``."""
    for value, row in zip(_chosen(values, present), rows.unbind(), strict=True):
        value.copy_(row)


def _chosen(values: Iterable[Tensor], present: Sequence[bool]) -> list[Tensor]:
    return [value for value, here in zip(values, present, strict=True) if here]


def constant_rows(value: float, num_tasks: int) -> nn.ParameterList:
    """T numbers that ``RowAdam`` may move and no other optimiser."""
    rows = nn.ParameterList()
    for _ in range(num_tasks):
        rows.append(nn.Parameter(torch.tensor(value), requires_grad=False))
    return rows


class RowAdam(nn.Module):
    """``torch.optim.Adam`` on one number per task, with gradients that the method works out itself.

    Each number is a parameter of its own: that of an absent task then has no gradient, and a
    momentum does not move it. The optimiser's state is part of ``state_dict``.

    Args:
        rows: T scalars.
        lr: the learning rate.
    """

    def __init__(self, rows: nn.ParameterList, lr: float) -> None:
        super().__init__()
        self.optimizer = torch.optim.Adam(rows, lr=lr)

    def step(self, gradient: Tensor, present: Sequence[bool]) -> None:
        """Move the present rows against ``gradient`` (P,)."""
        rows = self.optimizer.param_groups[0]["params"]
        for row, slope in zip(_chosen(rows, present), gradient.unbind(), strict=True):
            row.grad = slope.to(row)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(copy.deepcopy(state))
