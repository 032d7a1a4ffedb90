from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.aligned_mtl import AlignedMTL


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[3.0, 0.0], [0.0, 1.0]], [1 / 6, 1 / 2]),  # orthogonal: all as long as the shortest
        ([[1.0, 0.0], [1.0, 0.0]], [1 / 2, 1 / 2]),  # one component, left as it is
        ([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0]),  # the mean is zero
        # eigenvalues 1 + c and 1 - c along (1, 1) and (1, -1); the mean has only the first:
        # sqrt(0.2 / 1.8) / 2
        ([[1.0, 0.0], [0.8, 0.6]], [1 / 6, 1 / 6]),
        ([[0.0, 0.0], [0.0, 2.0]], [0.0, 1 / 2]),
        ([[0.0, 0.0], [0.0, 0.0]], [1 / 2, 1 / 2]),
    ],
)
def test_golden_values(rows: list[list[float]], expected: list[float]) -> None:
    matrix = torch.tensor(rows)
    assert AlignedMTL()(matrix @ matrix.T).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_as_torchjd(jacobians: list[Tensor], deficient: list[Tensor]) -> None:
    oracle = pytest.importorskip("torchjd.aggregation").AlignedMTLWeighting(scale_mode="min")
    for rows in jacobians + deficient:
        weights, theirs = AlignedMTL()(rows @ rows.T), oracle(rows @ rows.T)
        assert (weights - theirs).norm() <= 1e-4 * theirs.norm()


def test_aligned_gradients_have_condition_number_1(jacobians: list[Tensor]) -> None:
    rows = jacobians[2]
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    expected = (left @ right).mean(0) * singular.min()
    torch.testing.assert_close(rows.T @ AlignedMTL()(rows @ rows.T), expected)


def test_a_short_gradient_is_no_dependent_one() -> None:
    rows = torch.tensor([[1e4, 0.0], [0.0, 1e-2]])
    assert AlignedMTL()(rows @ rows.T).tolist() == pytest.approx([5e-7, 0.5], rel=1e-5)


def test_rounding_noise_of_float32_is_no_component() -> None:
    for seed in range(50):
        rows = torch.randn(3, 1000, generator=torch.Generator().manual_seed(seed))
        rows[2] = rows[0] + rows[1]
        exact = rows.double()
        expected = AlignedMTL()(exact @ exact.T)
        torch.testing.assert_close(
            AlignedMTL()(rows @ rows.T).double(), expected, rtol=1e-3, atol=1e-4
        )


def test_permuting_tasks_permutes_weights(jacobians: list[Tensor]) -> None:
    rows = jacobians[4]
    order = [3, 0, 5, 1, 4, 2]
    weights = AlignedMTL()(rows @ rows.T)
    torch.testing.assert_close(
        AlignedMTL()(rows[order] @ rows[order].T), weights[order], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_on_degenerate_gradients(degenerate: Tensor, dtype: torch.dtype) -> None:
    rows = degenerate.to(dtype)
    weights = AlignedMTL()(rows @ rows.T)
    assert weights.dtype == dtype
    assert weights.isfinite().all()


@pytest.mark.parametrize("squared_norm", [0.0, 1e-12, 9.0])
def test_one_task_is_plain_backpropagation(squared_norm: float) -> None:
    assert AlignedMTL()(torch.tensor([[squared_norm]])).tolist() == [1.0]
