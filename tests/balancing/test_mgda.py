from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.mgda import MGDA


def relative_difference(jacobian: Tensor, one: Tensor, two: Tensor) -> float:
    """Of the parts w_t |g_t|: as strict for the tiny weights of long gradients as for the
    others.
    """
    lengths = jacobian.norm(dim=1)
    return ((lengths * (one - two)).norm() / (lengths * two).norm()).item()


def test_golden_value() -> None:
    jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    torch.testing.assert_close(MGDA()(jacobian @ jacobian.T), torch.tensor([0.6, 0.4]))


def test_orthogonal_gradients_are_weighted_by_their_inverse_squares() -> None:
    gramian = torch.diag(torch.tensor([1e-6, 1.0, 4.0, 1e6], dtype=torch.float64))
    inverse = 1 / gramian.diagonal()
    torch.testing.assert_close(MGDA()(gramian), inverse / inverse.sum(), rtol=1e-9, atol=0)


def test_two_tasks_in_closed_form(jacobians: list[Tensor]) -> None:
    for jacobian in jacobians:
        one, two = jacobian[:2]
        share = ((two - one) @ two / (one - two).square().sum()).clamp(0, 1)
        expected = torch.stack([share, 1 - share])
        weights = MGDA()(jacobian[:2] @ jacobian[:2].T)
        assert relative_difference(jacobian[:2], weights, expected) < 1e-9


def test_the_optimality_condition(jacobians: list[Tensor], deficient: list[Tensor]) -> None:
    """w is optimal iff the point p = sum_t w_t g_t has <g_t, p> >= |p|^2 for all t."""
    for jacobian in jacobians + deficient:
        weights = MGDA()(jacobian @ jacobian.T)
        point, lengths = weights @ jacobian, jacobian.norm(dim=1)
        assert (weights >= 0).all()
        assert weights.sum().item() == pytest.approx(1)
        assert ((point @ point - jacobian @ point) <= 1e-10 * lengths * (weights @ lengths)).all()


def test_float32_gramians_with_rounding_errors(deficient: list[Tensor]) -> None:
    for jacobian in deficient:
        single = jacobian.float()
        weights = MGDA()(single @ single.T).double()
        point, lengths = weights @ single.double(), single.double().norm(dim=1)
        assert (
            (point @ point - single.double() @ point) <= 1e-5 * lengths * (weights @ lengths)
        ).all()


def test_zero_in_the_hull_gives_zero() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8], [3.0, 3.0]])
    assert (MGDA()(jacobian @ jacobian.T) @ jacobian).norm() < 1e-6


def test_ten_tasks() -> None:
    jacobian = (
        torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3
    )
    weights = MGDA()(jacobian @ jacobian.T)
    point = weights @ jacobian
    assert ((jacobian @ point) >= point @ point - 1e-9).all()


def test_torchjd(jacobians: list[Tensor]) -> None:
    """Its Frank-Wolfe steps are exact for two tasks; for more they end near, never below, our
    minimum.
    """
    oracle = pytest.importorskip("torchjd").aggregation.MGDAWeighting(epsilon=1e-9, max_iters=50)
    for jacobian in jacobians:
        gramian = jacobian @ jacobian.T
        weights, expected = MGDA()(gramian), oracle(gramian)
        if len(gramian) == 2:
            assert relative_difference(jacobian, weights, expected) < 1e-4
        assert weights @ gramian @ weights <= (1 + 1e-9) * (expected @ gramian @ expected)


def test_quadprog(jacobians: list[Tensor]) -> None:
    quadprog = pytest.importorskip("quadprog")
    for jacobian in jacobians[::2]:  # the well scaled half
        tasks = len(jacobian)
        constraints = torch.cat([torch.ones(tasks, 1), torch.eye(tasks)], dim=1).double().numpy()
        bounds = torch.eye(tasks + 1)[0].double().numpy()
        gramian = jacobian @ jacobian.T
        expected = quadprog.solve_qp(
            gramian.numpy(), torch.zeros(tasks).double().numpy(), constraints, bounds, 1
        )[0]
        torch.testing.assert_close(
            MGDA()(gramian), torch.from_numpy(expected), rtol=1e-4, atol=1e-9
        )
