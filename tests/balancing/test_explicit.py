"""The Gramian's path against the papers' definitions on the flattened gradients of a small
network.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from visionmtl.balancing.cagrad import CAGrad
from visionmtl.balancing.mgda import MGDA
from visionmtl.balancing.pcgrad import PCGrad, visiting_orders


@pytest.fixture
def gradients() -> Tensor:
    """(3, P): of three losses that want different things of one network, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
        image = torch.randn(16, 6, dtype=torch.float64)
    out = network(image)
    losses = [
        (out - 1).square().mean(),
        3 * (out + 0.5).abs().mean(),
        out.square().sum(1).exp().mean(),
    ]
    rows = [
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for loss in losses
    ]
    stacked = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    assert (stacked @ stacked.T).min() < 0, "no conflict: nothing to test"
    return stacked


def minimise_on_simplex(objective: Callable[[Tensor], Tensor], tasks: int, rate: float) -> Tensor:
    """Projected gradient descent; the projection subtracts the threshold under which the sorted
    rest sums to 1.
    """
    weights = torch.full((tasks,), 1 / tasks, dtype=torch.float64)
    counts = torch.arange(1, tasks + 1)
    for _ in range(1000):
        variable = weights.clone().requires_grad_()
        point = weights - rate * torch.autograd.grad(objective(variable), variable)[0]
        ordered = point.sort(descending=True).values
        thresholds = (ordered.cumsum(0) - 1) / counts
        weights = (point - thresholds[ordered > thresholds][-1]).clamp(min=0)
    return weights


def check(direction: Tensor, expected: Tensor) -> None:
    assert (direction - expected).norm() <= 1e-5 * expected.norm()


def test_pcgrad(gradients: Tensor) -> None:
    for seed in range(5):
        orders = visiting_orders(3, torch.Generator().manual_seed(seed))
        projected = gradients.clone()
        for i, order in enumerate(orders.tolist()):
            for j in order:
                product = projected[i] @ gradients[j]
                if product < 0:
                    projected[i] -= product / gradients[j].square().sum() * gradients[j]
        weights = PCGrad()(gradients @ gradients.T, torch.Generator().manual_seed(seed))
        check(weights @ gradients, projected.sum(0))


def test_mgda(gradients: Tensor) -> None:
    rate = 0.5 / gradients.square().sum()
    expected = minimise_on_simplex(lambda w: (w @ gradients).square().sum(), 3, rate.item())
    check(MGDA()(gradients @ gradients.T) @ gradients, expected @ gradients)


@pytest.mark.parametrize("c", [0.2, 0.8])
def test_cagrad(gradients: Tensor, c: float) -> None:
    mean = gradients.mean(0)

    def dual(weights: Tensor) -> Tensor:
        mixture = weights @ gradients
        return mixture @ mean + c * mean.norm() * mixture.norm()

    rate = 0.2 / (gradients.square().sum()).item()
    mixture = minimise_on_simplex(dual, 3, rate) @ gradients
    expected = mean + c * mean.norm() / mixture.norm() * mixture
    check(CAGrad(c=c)(gradients @ gradients.T) @ gradients, expected)
