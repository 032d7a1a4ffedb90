from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.cagrad import CAGrad

GOLDEN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


def dual(jacobian: Tensor, weights: Tensor, c: float) -> Tensor:
    mean, point = jacobian.mean(0), weights @ jacobian
    return point @ mean + c * mean.norm() * point.norm()


def on_simplex(weights: Tensor) -> Tensor:
    """The w of the dual problem."""
    excess = weights - 1 / len(weights)
    return excess / excess.sum()


def test_golden_value() -> None:
    """The example of TorchJD's documentation."""
    direction = CAGrad(c=0.5)(GOLDEN @ GOLDEN.T) @ GOLDEN
    torch.testing.assert_close(
        direction, torch.tensor([0.1835, 1.2041, 1.2041]).double(), rtol=0, atol=5e-5
    )


def test_c_0_is_the_mean_and_one_task_is_plain_backpropagation() -> None:
    assert CAGrad(c=0)(GOLDEN @ GOLDEN.T).tolist() == [0.5, 0.5]
    assert CAGrad(c=0.3)(torch.tensor([[7.0]])).item() == 1


def test_no_task_is_served_worse_than_by_the_mean(jacobians: list[Tensor]) -> None:
    for jacobian in jacobians:
        direction = CAGrad(c=0.5)(jacobian @ jacobian.T) @ jacobian
        worst_of_mean = (jacobian @ jacobian.mean(0)).min()
        assert (jacobian @ direction).min() >= worst_of_mean - 1e-9 * worst_of_mean.abs()


@pytest.mark.parametrize("c", [0.01, 0.4, 0.9])
def test_the_optimality_condition(
    jacobians: list[Tensor], deficient: list[Tensor], c: float
) -> None:
    """No duality gap: the worst-served task gets the dual's minimum from a direction on the ball's
    surface.
    """
    for jacobian in jacobians + deficient:
        weights = CAGrad(c=c)(jacobian @ jacobian.T)
        if weights.equal(torch.full_like(weights, 1 / len(weights))):
            assert stationary(jacobian)
            continue
        mean, direction = jacobian.mean(0), weights @ jacobian
        assert ((direction - mean).norm() / mean.norm()).item() == pytest.approx(c, rel=1e-6)
        simplex = on_simplex(weights)
        assert (simplex >= 0).all()
        gap = dual(jacobian, simplex, c) - (jacobian @ direction).min()
        assert gap <= 1e-7 * mean.norm() * (simplex @ jacobian.norm(dim=1))


def stationary(jacobian: Tensor) -> bool:
    """Whether the hull of the gradients holds zero."""
    cosines = torch.nn.functional.normalize(jacobian)
    weights = torch.full_like(cosines[:, 0], 1 / len(cosines))
    for step in range(20000):  # Frank-Wolfe
        target = torch.zeros_like(weights)
        target[(cosines @ (weights @ cosines)).argmin()] = 1
        weights = weights + 2 / (step + 2) * (target - weights)
    return bool((weights @ cosines).norm() < 1e-2)


def test_a_stationary_point_gets_the_mean() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert CAGrad()(jacobian @ jacobian.T).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_task_without_a_gradient_leaves_the_others_alone(
    scale: float, dtype: torch.dtype
) -> None:
    """Weights stay finite, and no task with a gradient is served worse than by the mean."""
    generator = torch.Generator().manual_seed(0)
    for number in range(300):
        tasks = 2 + number % 4
        jacobian = torch.randint(-3, 4, (tasks, 3), generator=generator).double()
        jacobian[number % tasks] = 1e-30 * jacobian[0] if number % 2 else 0.0
        weights = CAGrad()((scale * jacobian.to(dtype)) @ (scale * jacobian.to(dtype)).T).double()
        assert weights.isfinite().all()
        assert weights.abs().max() < 1e6
        alive = jacobian[jacobian.norm(dim=1) > 1e-20]
        if len(alive):
            worst, of_mean = alive @ (weights @ jacobian), alive @ jacobian.mean(0)
            assert worst.min() >= of_mean.min() - 1e-4 * jacobian.norm()


@pytest.mark.parametrize("c", [-0.1, 1.0, float("nan")])
def test_bad_c(c: float) -> None:
    with pytest.raises(ValueError, match=r"^CAGrad: c: must be (>= 0|< 1|finite), got"):
        CAGrad(c=c)


def test_torchjd(jacobians: list[Tensor]) -> None:
    """Clarabel stops at about 1e-8 of the objective, thus earlier than we do: where weights differ
    ours are better.
    """
    pytest.importorskip("cvxpy")
    weighting = pytest.importorskip("torchjd").aggregation.CAGradWeighting
    agreed = 0
    for index, jacobian in enumerate(jacobians):
        c = (0.1, 0.4, 0.9)[index % 3]
        weights, expected = (
            CAGrad(c=c)(jacobian @ jacobian.T),
            weighting(c=c, norm_eps=1e-30)(jacobian @ jacobian.T),
        )
        lengths = jacobian.norm(dim=1)
        if (lengths * (weights - expected)).norm() <= 1e-4 * (lengths * expected).norm():
            agreed += 1
        else:
            assert dual(jacobian, on_simplex(weights), c) <= dual(jacobian, on_simplex(expected), c)
            assert (lengths * (weights - expected)).norm() <= 1e-2 * (lengths * expected).norm()
    assert agreed >= 0.9 * len(jacobians)
