from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.imtl_g import IMTLG


def spread(jacobian: Tensor, weights: Tensor) -> float:
    """How far the projections differ, relative to the parts of the sum."""
    lengths = jacobian.norm(dim=1)
    projections = jacobian @ (weights @ jacobian) / lengths
    return ((projections.max() - projections.min()) / (weights.abs() @ lengths)).item()


def test_two_tasks_get_the_other_ones_length() -> None:
    jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    lengths = jacobian.norm(dim=1)
    torch.testing.assert_close(IMTLG()(jacobian @ jacobian.T), lengths.flip(0) / lengths.sum())


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_two_dependent_tasks(factor: float) -> None:
    gramian = torch.tensor([[1.0, factor], [factor, factor**2]])
    weights = IMTLG()(gramian)
    assert weights.sum().item() == pytest.approx(1)
    if factor < 0:  # g = 0 is the one point of the line with equal projections
        assert weights.tolist() == pytest.approx([0.75, 0.25])


def test_the_paper_s_formula() -> None:
    """(w_2 .. w_T) = g_1 U^T (D U^T)^-1 with rows u_1 - u_t of U and g_1 - g_t of D."""
    jacobian = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units = torch.nn.functional.normalize(jacobian)
    differences, unit_differences = jacobian[:1] - jacobian[1:], units[:1] - units[1:]
    rest = jacobian[0] @ unit_differences.T @ torch.linalg.inv(differences @ unit_differences.T)
    torch.testing.assert_close(
        IMTLG()(jacobian @ jacobian.T), torch.cat([1 - rest.sum(0, keepdim=True), rest])
    )


def test_projections_are_equal_and_weights_sum_to_1(
    jacobians: list[Tensor], deficient: list[Tensor]
) -> None:
    for jacobian in jacobians + deficient:
        weights = IMTLG()(jacobian @ jacobian.T)
        assert weights.sum().item() == pytest.approx(1)
        assert spread(jacobian, weights) < 1e-8


def test_a_zero_gradient_gets_no_weight() -> None:
    jacobian = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-2.0, 4.0]])
    both = jacobian[[0, 2]]
    one, two = IMTLG()(both @ both.T).tolist()
    assert IMTLG()(jacobian @ jacobian.T).tolist() == pytest.approx([one, 0.0, two])


def test_no_gradient_at_all() -> None:
    assert IMTLG()(torch.zeros(4, 4)).tolist() == [0.25] * 4


def test_torchjd(jacobians: list[Tensor]) -> None:
    oracle = pytest.importorskip("torchjd").aggregation.IMTLGWeighting()
    for jacobian in jacobians:
        gramian, lengths = jacobian @ jacobian.T, jacobian.norm(dim=1)
        weights, expected = IMTLG()(gramian), oracle(gramian)
        assert (lengths * (weights - expected)).norm() <= 1e-4 * (lengths * expected).norm()
