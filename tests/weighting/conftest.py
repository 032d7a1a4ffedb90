"""A stand-in for the training loop that calls a weighting as the engine does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from visionmtl.weighting import LossWeighting

Weights = Callable[[LossWeighting, Tensor, Sequence[bool], int], Tensor]


def _generator(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def _weights_of(
    weighting: LossWeighting, losses: Tensor, present: Sequence[bool], step: int = 0
) -> Tensor:
    leaf = losses.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weighting(leaf, present, _generator(step)), leaf)
    return gradient


class Loop:
    """Steps on given losses; an epoch is three steps."""

    def __init__(self, weighting: LossWeighting) -> None:
        self.weighting = weighting
        parameters = [p for p in weighting.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=0.1) if parameters else None

    def step(
        self, number: int, losses: Tensor, jacobian: Tensor, present: Sequence[bool]
    ) -> Tensor:
        """One step; the weights that it had."""
        kept = [t for t, here in enumerate(present) if here]
        with torch.no_grad():
            if self.weighting.needs_gramian:
                self.weighting.observe_gramian(jacobian[kept] @ jacobian[kept].T, losses, present)
        weights = _weights_of(self.weighting, losses, present, number)
        if self.optimizer is not None:
            self.optimizer.zero_grad()
            self.weighting(losses, present, _generator(number)).backward()
            self.optimizer.step()
        with torch.no_grad():
            after = (
                losses * (0.9 + 0.1 * jacobian[:, 0].tanh())
                if self.weighting.needs_second_forward
                else None
            )
            self.weighting.after_step(losses, after, present)
            if number % 3 == 2:
                means = [
                    value if here else math.nan
                    for value, here in zip(losses.tolist(), present, strict=True)
                ]
                self.weighting.end_epoch(torch.tensor(means))
        return weights


@pytest.fixture
def weights_of() -> Weights:
    """Derivatives of the weighted loss by the losses."""
    return _weights_of


@pytest.fixture
def loop() -> type[Loop]:
    """The loop's class."""
    return Loop
