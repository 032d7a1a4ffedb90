from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import GradNorm

ALL = [True, True, True]


def rows(weighting: GradNorm) -> torch.Tensor:
    return torch.stack(list(weighting.weights))


def gramian_of(*norms: float) -> torch.Tensor:
    return torch.diag(torch.tensor(norms)) ** 2


def test_golden_first_step() -> None:
    weighting = GradNorm(2)
    weighting.observe_gramian(gramian_of(1.0, 3.0), torch.tensor([1.0, 1.0]), [True, True])
    torch.testing.assert_close(
        rows(weighting), torch.tensor([1.025, 0.975])
    )  # Adam's first step is lr long


def test_weights_of_the_losses(weights_of: Any) -> None:
    weighting = GradNorm(2)
    assert weighting(torch.tensor([2.0, 3.0]), [True, True]).item() == 5.0
    weighting.observe_gramian(gramian_of(1.0, 3.0), torch.tensor([1.0, 1.0]), [True, True])
    torch.testing.assert_close(
        weights_of(weighting, torch.ones(2), [True, True]), torch.tensor([1.025, 0.975])
    )


def test_norms_become_equal_where_losses_fall_together() -> None:
    weighting, norms = GradNorm(3, lr=0.01), torch.tensor([1.0, 2.0, 4.0])
    for step in range(400):
        weighting.observe_gramian(gramian_of(*norms.tolist()), torch.ones(3) * 0.99**step, ALL)
    assert rows(weighting).sum().item() == pytest.approx(3)
    torch.testing.assert_close(rows(weighting) * norms, torch.full((3,), 12 / 7), rtol=0.05, atol=0)


def test_the_slow_task_gets_the_larger_gradient() -> None:
    weighting = GradNorm(2, alpha=1.0, lr=0.01)
    for step in range(300):
        weighting.observe_gramian(
            torch.eye(2), torch.tensor([1.0, 1.0 if step == 0 else 0.5]), [True, True]
        )
    torch.testing.assert_close(rows(weighting), torch.tensor([4 / 3, 2 / 3]), rtol=0.05, atol=0)


def test_the_gradient_is_that_of_the_paper() -> None:
    weighting, alpha = GradNorm(3), 1.5
    first, now = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.9, 1.0, 2.9])
    norms = torch.tensor([0.5, 1.0, 2.0])
    weighting.first_losses.copy_(first)
    weights = torch.ones(3, requires_grad=True)
    rates = (now / first) / (now / first).mean()
    target = ((weights * norms).mean() * rates**alpha).detach()
    (weights * norms - target).abs().sum().backward()
    weighting.observe_gramian(gramian_of(*norms.tolist()), now, ALL)
    assert weights.grad is not None
    moments = weighting.adam.optimizer.state.values()
    mean = torch.stack([moment["exp_avg"] for moment in moments])
    torch.testing.assert_close(mean, 0.1 * weights.grad)


def test_weights_stay_positive_and_keep_their_sum() -> None:
    weighting = GradNorm(3, lr=0.5)
    for step in range(50):
        norms, present = ((1e-6, 1.0, 1e6), ALL) if step % 2 else ((1e-6, 1e6), [True, False, True])
        weighting.observe_gramian(
            gramian_of(*norms), torch.tensor([0.5, 1.0, 2.0]) / (step + 1), present
        )
        assert (rows(weighting) > 0).all()
        assert rows(weighting).sum().item() == pytest.approx(3)


def test_the_first_loss_is_that_of_the_first_step_with_the_task() -> None:
    weighting = GradNorm(2)
    weighting.observe_gramian(gramian_of(1.0), torch.tensor([3.0, 0.0]), [True, False])
    weighting.observe_gramian(gramian_of(1.0, 1.0), torch.tensor([2.0, 5.0]), [True, True])
    assert weighting.first_losses.tolist() == [3.0, 5.0]


def test_a_gramian_in_float64() -> None:
    weighting = GradNorm(2)
    weighting.observe_gramian(gramian_of(1.0, 3.0).double(), torch.ones(2), [True, True])
    assert rows(weighting).dtype == torch.float32


def test_flags() -> None:
    assert GradNorm.needs_gramian
    assert not GradNorm.combines


@pytest.mark.parametrize("alpha", [-1.0, math.inf, math.nan])
def test_bad_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^GradNorm: alpha: must be (>= 0|finite), got"):
        GradNorm(2, alpha=alpha)


def test_bad_lr() -> None:
    with pytest.raises(ValueError, match=r"^GradNorm: lr: must be > 0, got -0\.1$"):
        GradNorm(2, lr=-0.1)
