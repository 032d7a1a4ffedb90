from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.quadratic import solve_nonnegative
from visionmtl.balancing.upgrad import UPGrad


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [1 / 2, 1 / 2]),
        ([[1.0, 0.0], [1.0, 3.0]], [1 / 2, 1 / 2]),  # no conflict: the mean
        # each loses its part along the other: (1 - <g1, g2> / |g_other|^2) / 2
        ([[1.0, 0.0], [-1.0, 1.0]], [(1 + 1) / 2, (1 + 1 / 2) / 2]),
        ([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], [(1 + 22 / 18) / 2, (1 + 22 / 38) / 2]),
        ([[0.0, 0.0], [0.0, 0.0]], [1 / 2, 1 / 2]),
    ],
)
def test_golden_values(rows: list[list[float]], expected: list[float]) -> None:
    matrix = torch.tensor(rows)
    assert UPGrad(reg_eps=1e-9)(matrix @ matrix.T).tolist() == pytest.approx(expected, rel=1e-5)


def test_as_torchjd(jacobians: list[Tensor], deficient: list[Tensor]) -> None:
    pytest.importorskip("quadprog")
    pytest.importorskip("qpsolvers")
    module = pytest.importorskip("torchjd.aggregation")
    projector = pytest.importorskip("torchjd.linalg").QuadprogProjector(norm_eps=0.0, reg_eps=1e-4)
    oracle = module.UPGradWeighting(projector=projector)
    for rows in jacobians + deficient:
        weights = UPGrad()(rows @ rows.T)
        torch.testing.assert_close(weights, oracle(rows @ rows.T), rtol=1e-4, atol=1e-9)


def test_no_task_gets_worse(jacobians: list[Tensor]) -> None:
    for rows in jacobians[:60:2]:
        gains = rows @ (rows.T @ UPGrad(reg_eps=1e-9)(rows @ rows.T))
        assert gains.min() > -1e-6


def test_solver_is_optimal() -> None:
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        size = 2 + seed % 9
        rows = torch.randn(size, size - seed % 2, generator=generator, dtype=torch.float64)
        matrix = rows @ rows.T / rows.square().sum() + 1e-6 * torch.eye(size, dtype=torch.float64)
        linear = torch.randn(size, generator=generator, dtype=torch.float64)
        lower = torch.linalg.cholesky(matrix)
        right = torch.linalg.solve_triangular(lower, -linear[:, None], upper=False)
        y = solve_nonnegative(lower.T, right[:, 0])
        slack = matrix @ y + linear
        assert (y >= 0).all()
        assert slack.min() > -1e-8
        assert (y * slack).abs().max() < 1e-6 * max(1.0, float(y.max()))


def test_the_scale_of_all_losses_drops_out(jacobians: list[Tensor]) -> None:
    rows = jacobians[2]
    weights = UPGrad()(rows @ rows.T)
    torch.testing.assert_close(UPGrad()(rows @ rows.T * 1e-12), weights)


def test_permuting_tasks_permutes_weights(jacobians: list[Tensor]) -> None:
    rows = jacobians[4]
    order = [3, 0, 5, 1, 4, 2]
    weights = UPGrad()(rows @ rows.T)
    torch.testing.assert_close(
        UPGrad()(rows[order] @ rows[order].T), weights[order], rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("reg_eps", [1e-4, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_on_degenerate_gradients(
    degenerate: Tensor, dtype: torch.dtype, reg_eps: float
) -> None:
    rows = degenerate.to(dtype)
    weights = UPGrad(reg_eps=reg_eps)(rows @ rows.T)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert (weights >= 1 / len(rows) - 1e-6).all()


@pytest.mark.parametrize("squared_norm", [0.0, 1e-12, 9.0])
def test_one_task_is_plain_backpropagation(squared_norm: float) -> None:
    assert UPGrad()(torch.tensor([[squared_norm]])).tolist() == [1.0]


@pytest.mark.parametrize("reg_eps", [0.0, -1.0, math.nan, math.inf])
def test_bad_reg_eps(reg_eps: float) -> None:
    with pytest.raises(ValueError, match=r"^UPGrad: reg_eps: must be (>= 1e-09|finite), got"):
        UPGrad(reg_eps=reg_eps)
