from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.nash_mtl import NashMTL


@pytest.mark.parametrize(
    ("gramian", "expected"),
    [
        ([[4.0, 0.0], [0.0, 16.0]], [1 / 2, 1 / 4]),  # orthogonal: 1 / |g|
        ([[4.0, 4.0], [4.0, 4.0]], [8**-0.5, 8**-0.5]),  # parallel: 8 a = 1 / a
        ([[1.0, -3.0], [-3.0, 16.0]], [2.0, 1 / 2]),  # cosine -3/4: a^2 |g|^2 = 1 / (1 - 3/4)
    ],
)
def test_golden_values(gramian: list[list[float]], expected: list[float]) -> None:
    weights = NashMTL(max_norm=0.0)(torch.tensor(gramian))
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


def error(rows: Tensor, weights: Tensor) -> float:
    """Largest error of a (G a) = 1."""
    return float((rows @ (rows.T @ weights) * weights - 1).abs().max())


def test_solves_its_equation(jacobians: list[Tensor]) -> None:
    for rows in jacobians:
        weights = NashMTL(max_norm=0.0)(rows @ rows.T)
        assert (weights > 0).all()
        assert error(rows, weights) < 1e-6


def test_dependent_gradients_with_a_solution(jacobians: list[Tensor]) -> None:
    for rows in jacobians[:50]:
        rows = rows / rows.norm(dim=1, keepdim=True)
        rows[:, 0] = 1.0  # all in one half-space
        rows = torch.cat([rows, rows[:1] + rows[1:2], rows[-1:]])
        assert error(rows, NashMTL(max_norm=0.0)(rows @ rows.T)) < 1e-5


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_as_torchjd_where_that_converges(jacobians: list[Tensor]) -> None:
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    oracle = pytest.importorskip("torchjd.aggregation").NashMTL
    compared = 0
    for rows in jacobians[:80:2]:  # the badly scaled ones take it long and do not converge
        theirs = oracle(n_tasks=len(rows), max_norm=0.0).weighting(rows)
        if error(rows, theirs) < 1e-3:
            torch.testing.assert_close(
                NashMTL(max_norm=0.0)(rows @ rows.T), theirs, rtol=1e-3, atol=0
            )
            compared += 1
    assert compared > 30


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 100.0])
def test_norm_of_the_direction(max_norm: float, jacobians: list[Tensor]) -> None:
    rows = jacobians[3]
    norm = (rows.T @ NashMTL(max_norm=max_norm)(rows @ rows.T)).norm()
    assert float(norm) == pytest.approx(min(max_norm, math.sqrt(len(rows))))


def test_the_scale_of_a_loss_drops_out(jacobians: list[Tensor]) -> None:
    rows = jacobians[4]
    scaled = rows * torch.tensor([[1e-3], [1.0], [1e3], [7.0], [0.1], [1.0]], dtype=torch.float64)
    expected = rows.T @ NashMTL()(rows @ rows.T)
    torch.testing.assert_close(
        scaled.T @ NashMTL()(scaled @ scaled.T), expected, rtol=1e-7, atol=1e-9
    )


def test_permuting_tasks_permutes_weights(jacobians: list[Tensor]) -> None:
    rows = jacobians[9]
    order = [3, 0, 5, 1, 4, 2]
    weights = NashMTL()(rows @ rows.T)
    torch.testing.assert_close(
        NashMTL()(rows[order] @ rows[order].T), weights[order], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_on_degenerate_gradients(degenerate: Tensor, dtype: torch.dtype) -> None:
    rows = degenerate.to(dtype)
    weights = NashMTL()(rows @ rows.T)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert (weights > 0).all()


def test_a_zero_gradient_leaves_the_others_as_they_are() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-2.0, 1.0]])
    kept = rows[[0, 2]]
    torch.testing.assert_close(NashMTL()(rows @ rows.T)[[0, 2]], NashMTL()(kept @ kept.T))


@pytest.mark.parametrize("squared_norm", [0.0, 1e-12, 9.0])
def test_one_task_is_plain_backpropagation(squared_norm: float) -> None:
    assert NashMTL()(torch.tensor([[squared_norm]])).tolist() == [1.0]


def test_has_no_state() -> None:
    balancer = NashMTL()
    balancer(torch.eye(3))
    assert not balancer.state_dict()


@pytest.mark.parametrize("max_norm", [-1.0, math.inf, math.nan])
def test_bad_max_norm(max_norm: float) -> None:
    with pytest.raises(ValueError, match=r"^NashMTL: max_norm: must be (>= 0|finite), got"):
        NashMTL(max_norm=max_norm)
