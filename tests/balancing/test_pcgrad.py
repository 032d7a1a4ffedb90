from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.pcgrad import PCGrad, visiting_orders

GOLDEN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def test_golden_value() -> None:
    torch.testing.assert_close(
        PCGrad()(GOLDEN @ GOLDEN.T), torch.tensor([2.2222, 1.5789]), rtol=1e-4, atol=0
    )


def test_each_order_leaves_out_its_own_task() -> None:
    orders = visiting_orders(5, torch.Generator().manual_seed(0))
    assert orders.shape == (5, 4)
    for own, order in enumerate(orders.tolist()):
        assert sorted([own, *order]) == [0, 1, 2, 3, 4]
    assert len({tuple(o) for o in visiting_orders(5, None).argsort(1).tolist()}) > 1
    assert visiting_orders(1, None).shape == (1, 0)


def test_same_generator_state_same_weights() -> None:
    jacobian = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    one, two, other = (
        PCGrad()(jacobian @ jacobian.T, torch.Generator().manual_seed(seed)) for seed in (7, 7, 9)
    )
    assert one.equal(two)
    assert not one.equal(other)


def test_no_conflict_is_the_sum() -> None:
    jacobian = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    assert PCGrad()(jacobian @ jacobian.T).tolist() == [1.0] * 6


def test_a_zero_gradient_changes_nothing() -> None:
    gramian = torch.zeros(3, 3)
    gramian[:2, :2] = GOLDEN @ GOLDEN.T
    expected = [*PCGrad()(GOLDEN @ GOLDEN.T).tolist(), 1.0]
    assert PCGrad()(gramian).tolist() == pytest.approx(expected)


def test_torchjd(
    jacobians: list[Tensor], deficient: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = pytest.importorskip("torchjd").aggregation.PCGradWeighting()
    for seed, jacobian in enumerate(jacobians + deficient):
        gramian = jacobian @ jacobian.T
        orders = iter(visiting_orders(len(gramian), torch.Generator().manual_seed(seed)))
        weights = PCGrad()(gramian, torch.Generator().manual_seed(seed))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randperm", lambda _, orders=orders: next(orders))
            expected = oracle(gramian)
        torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-9)
