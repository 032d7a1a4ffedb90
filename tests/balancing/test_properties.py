from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visionmtl.balancing import BALANCERS
from visionmtl.balancing.base import GradientBalancer

EVERY = [name for name in BALANCERS if name != "torchjd"]
METHODS = ["sum", "pcgrad", "gradvac", "mgda", "cagrad", "imtl_g"]
DETERMINISTIC = ["sum", "mgda", "cagrad", "imtl_g"]


def test_names() -> None:
    others = ["nash_mtl", "aligned_mtl", "fairgrad", "upgrad", "torchjd"]
    assert set(BALANCERS) >= {*METHODS, *others}
    assert all(issubclass(balancer, GradientBalancer) for balancer in BALANCERS.values())


def test_the_base_class_is_a_contract_only() -> None:
    with pytest.raises(NotImplementedError):
        GradientBalancer()(torch.eye(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_degenerate_gramians_give_finite_weights(
    name: str, dtype: torch.dtype, degenerate: Tensor
) -> None:
    jacobian = degenerate.to(dtype)
    gramian = jacobian @ jacobian.T
    before, balancer = gramian.clone(), BALANCERS[name]()
    for _ in range(3):  # GradVac's targets settle
        weights = balancer(gramian, torch.Generator().manual_seed(0))
        assert weights.shape == (len(gramian),)
        assert weights.dtype == dtype
        assert weights.isfinite().all()
        assert (weights @ jacobian).isfinite().all()
    assert gramian.equal(before)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("square", [0.0, 1e-20, 25.0])
def test_one_task(name: str, square: float) -> None:
    weight = BALANCERS[name]()(torch.tensor([[square]])).item()
    assert weight == pytest.approx(1.0)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_order_of_the_tasks_does_not_matter(name: str, jacobians: list[Tensor]) -> None:
    balancer = BALANCERS[name]()
    for seed, jacobian in enumerate(jacobians[:60]):
        order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(seed))
        gramian, lengths = jacobian @ jacobian.T, jacobian.norm(dim=1)
        weights = balancer(gramian)
        difference = balancer(gramian[order][:, order]) - weights[order]
        assert (lengths[order] * difference).norm() <= 1e-6 * (lengths * weights).norm()


@pytest.mark.parametrize("name", METHODS)
def test_a_common_factor_does_not_matter(name: str, jacobians: list[Tensor]) -> None:
    for jacobian in jacobians[:20]:
        gramian = jacobian @ jacobian.T
        one, two = (
            BALANCERS[name]()(g, torch.Generator().manual_seed(0))
            for g in (gramian, 1e-8 * gramian)
        )
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_float32_is_near_float64(name: str, jacobians: list[Tensor]) -> None:
    for jacobian in jacobians[:40:2]:
        gramian = jacobian @ jacobian.T
        one, two = (
            BALANCERS[name]()(g, torch.Generator().manual_seed(0))
            for g in (gramian, gramian.float())
        )
        assert (one - two).norm() <= 1e-3 * one.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_cuda(name: str) -> None:
    jacobian = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    gramian = jacobian @ jacobian.T
    host, device = BALANCERS[name](), BALANCERS[name]()
    for seed in range(3):
        expected = host(gramian, torch.Generator().manual_seed(seed))
        weights = device(gramian.cuda(), torch.Generator().manual_seed(seed))
        assert weights.device.type == "cuda"
        torch.testing.assert_close(weights.cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["sum", "pcgrad", "gradvac"])
def test_closed_forms_do_not_wait_for_the_device(name: str) -> None:
    balancer, gramian = BALANCERS[name](), torch.eye(3, device="cuda")
    balancer(gramian)
    torch.cuda.set_sync_debug_mode("error")
    try:
        balancer(gramian)
    finally:
        torch.cuda.set_sync_debug_mode("default")
