from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.fairgrad import FairGrad
from visionmtl.balancing.nash_mtl import NashMTL


def error(rows: Tensor, weights: Tensor, alpha: float) -> float:
    """Largest relative error of G w = w^(-1/alpha)."""
    return float((rows @ (rows.T @ weights) * weights ** (1 / alpha) - 1).abs().max())


@pytest.mark.parametrize(
    ("gramian", "alpha", "expected"),
    [
        ([[8.0, 0.0], [0.0, 27.0]], 2.0, [1 / 4, 1 / 9]),  # orthogonal: |g|^2 = w^(-3/2)
        ([[4.0, 4.0], [4.0, 4.0]], 2.0, [1 / 4, 1 / 4]),  # parallel: 8 w = w^(-1/2)
        ([[16.0, -8.0], [-8.0, 16.0]], 2.0, [1 / 4, 1 / 4]),  # 8 w = w^(-1/2)
        ([[27.0, 0.0], [0.0, 1.0]], 0.5, [1 / 3, 1.0]),  # |g|^2 = w^(-3)
        ([[4.0, 0.0], [0.0, 16.0]], 1.0, [1 / 2, 1 / 4]),
    ],
)
def test_golden_values(gramian: list[list[float]], alpha: float, expected: list[float]) -> None:
    assert FairGrad(alpha=alpha)(torch.tensor(gramian)).tolist() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0, 10.0])
def test_solves_its_equation(alpha: float, jacobians: list[Tensor]) -> None:
    for rows in jacobians if alpha == 2.0 else jacobians[:60]:
        weights = FairGrad(alpha=alpha)(rows @ rows.T)
        assert (weights > 0).all()
        assert error(rows, weights, alpha) < 1e-5


def test_alpha_1_is_nash_mtl(jacobians: list[Tensor]) -> None:
    gramian = jacobians[3] @ jacobians[3].T
    torch.testing.assert_close(FairGrad(alpha=1.0)(gramian), NashMTL(max_norm=0.0)(gramian))


def test_as_torchjd(jacobians: list[Tensor]) -> None:
    pytest.importorskip("scipy")
    oracle = pytest.importorskip("torchjd.aggregation").FairGradWeighting(alpha=2.0, max_iters=100)
    compared = 0
    for rows in (
        jacobians[::2] + jacobians[1:41:4]
    ):  # the second ten are badly scaled and take it long
        theirs = oracle(rows @ rows.T)
        if error(rows, theirs, 2.0) < 1e-5:  # not so for some badly scaled ones
            torch.testing.assert_close(
                FairGrad(alpha=2.0)(rows @ rows.T), theirs, rtol=1e-4, atol=0
            )
            compared += 1
    assert compared >= 100


def test_permuting_tasks_permutes_weights(jacobians: list[Tensor]) -> None:
    rows = jacobians[9]
    order = [3, 0, 5, 1, 4, 2]
    weights = FairGrad()(rows @ rows.T)
    torch.testing.assert_close(
        FairGrad()(rows[order] @ rows[order].T), weights[order], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("alpha", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_on_degenerate_gradients(
    degenerate: Tensor, dtype: torch.dtype, alpha: float
) -> None:
    rows = degenerate.to(dtype)
    weights = FairGrad(alpha=alpha)(rows @ rows.T)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("squared_norm", [0.0, 1e-12, 9.0])
def test_one_task_is_plain_backpropagation(squared_norm: float) -> None:
    assert FairGrad()(torch.tensor([[squared_norm]])).tolist() == [1.0]


@pytest.mark.parametrize("alpha", [0.0, -1.0, 0.4, 11.0, math.nan])
def test_bad_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^FairGrad: alpha: must be (>= 0\.5|<= 10|finite), got"):
        FairGrad(alpha=alpha)
