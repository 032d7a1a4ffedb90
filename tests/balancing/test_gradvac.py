from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visionmtl.balancing.gradvac import GradVac
from visionmtl.balancing.pcgrad import PCGrad


def gramians(tasks: int, number: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    jacobians = [
        torch.randn(tasks, 8, generator=generator, dtype=torch.float64) for _ in range(number)
    ]
    return [jacobian @ jacobian.T for jacobian in jacobians]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_first_step_is_pcgrad_and_so_are_all_with_beta_0() -> None:
    steady = GradVac(beta=0)
    for seed, gramian in enumerate(gramians(4, 5)):
        expected = PCGrad()(gramian, seeded(seed))
        torch.testing.assert_close(GradVac()(gramian, seeded(seed)), expected)
        torch.testing.assert_close(steady(gramian, seeded(seed)), expected)


def test_the_correction_reaches_the_target_cosine() -> None:
    balancer = GradVac(beta=1)
    balancer(torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64))  # both targets become 0.6
    gramian = torch.tensor([[4.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    # The step |g_i| (t sin - phi cos_t) / (|g_j| sqrt(1 - t^2)) with phi = -0.5, t = 0.6, for |g| =
    # 2, 1 and 1, 2.
    factor = (0.6 * 0.75**0.5 + 0.5 * 0.8) / 0.8
    torch.testing.assert_close(
        balancer(gramian), torch.tensor([1 + factor / 2, 1 + 2 * factor], dtype=torch.float64)
    )
    mixed = torch.tensor([1.0, 2 * factor], dtype=torch.float64)  # g_1'
    assert (mixed @ gramian[1] / (mixed @ gramian @ mixed).sqrt()).item() == pytest.approx(0.6)


def test_targets_are_a_running_mean_of_the_cosines() -> None:
    balancer = GradVac(beta=0.25)
    for cosine in (0.8, 0.4):
        balancer(torch.tensor([[1.0, cosine], [cosine, 1.0]]))
    expected = 0.75 * (0.25 * 0.8) + 0.25 * 0.4
    assert balancer.state_dict()["_extra_state"][0, 1].item() == pytest.approx(expected)


def test_a_run_resumes_exactly() -> None:
    steps = gramians(4, 6)
    balancer = GradVac()
    for gramian in steps[:3]:
        balancer(gramian, seeded(1))
    file = io.BytesIO()
    torch.save(balancer.state_dict(), file)
    file.seek(0)
    resumed = GradVac()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for gramian in steps[3:]:
        assert resumed(gramian, seeded(2)).equal(balancer(gramian, seeded(2)))


def test_a_state_is_a_snapshot() -> None:
    balancer, gramian = GradVac(), gramians(2, 1)[0]
    balancer(gramian)
    state = balancer.state_dict()
    before = state["_extra_state"].clone()
    balancer(gramian)
    other = GradVac()
    other.load_state_dict(state)
    other(gramian)
    assert state["_extra_state"].equal(before)


def test_missing_tasks_keep_their_targets() -> None:
    first, second = gramians(4, 2)
    balancer, small = GradVac(), GradVac()
    balancer(first, seeded(0))
    before = balancer.state_dict()["_extra_state"]
    keep = torch.tensor([1, 3])
    small.load_state_dict({"_extra_state": before[keep][:, keep]})
    weights = balancer(second[keep][:, keep], seeded(1), tasks=[1, 3])
    assert weights.equal(small(second[keep][:, keep], seeded(1)))
    after = balancer.state_dict()["_extra_state"]
    changed = (after != before).nonzero().tolist()
    assert changed == [[1, 3], [3, 1]]


def test_tasks_that_come_later_find_room() -> None:
    balancer, gramian = GradVac(), gramians(2, 1)[0]
    balancer(gramian, tasks=[0, 1])
    before = balancer.state_dict()["_extra_state"]
    balancer(gramian, tasks=[2, 4])
    after = balancer.state_dict()["_extra_state"]
    assert after.shape == (5, 5)
    assert after[:2, :2].equal(before)
    assert after[2, 4] == before[0, 1]


def test_a_zero_gradient_leaves_targets_alone() -> None:
    balancer = GradVac()
    balancer(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    before = balancer.state_dict()["_extra_state"]
    assert balancer(torch.tensor([[1.0, 0.0], [0.0, 0.0]])).tolist() == [1.0, 1.0]
    assert balancer.state_dict()["_extra_state"].equal(before)


def test_tasks_that_were_parallel_have_bounded_weights() -> None:
    """Each correction is bounded, and so is what three of them in a row make."""
    generator, balancer = seeded(0), GradVac()
    common = torch.randn(64, generator=generator, dtype=torch.float64)
    for _ in range(200):
        jacobian = common + 1e-4 * torch.randn(4, 64, generator=generator, dtype=torch.float64)
        balancer(jacobian @ jacobian.T, generator)
    opposite = common * torch.tensor([[1.0], [-1.0], [1.0], [1.0]])
    unrelated = torch.randn(4, 64, generator=generator, dtype=torch.float64)
    for jacobian in (opposite, F.normalize(unrelated, dim=1)):
        weights = balancer(jacobian @ jacobian.T, generator)
        assert weights.isfinite().all()
        assert weights.abs().max() < 1e3


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_bad_beta(beta: float) -> None:
    with pytest.raises(ValueError, match=r"^GradVac: beta: must be (>= 0|<= 1|finite), got"):
        GradVac(beta=beta)


def test_torchjd(jacobians: list[Tensor]) -> None:
    weighting = pytest.importorskip("torchjd").aggregation.GradVacWeighting
    by_size = sorted(jacobians, key=len)
    balancer = oracle = None
    for seed, (before, jacobian) in enumerate(pairwise([by_size[0], *by_size])):
        if oracle is None or balancer is None or len(before) != len(jacobian):
            balancer, oracle = GradVac(beta=0.3), weighting(beta=0.3, eps=0.0)
        gramian = jacobian @ jacobian.T
        torch.manual_seed(seed)
        expected = oracle(gramian)
        torch.testing.assert_close(balancer(gramian, seeded(seed)), expected, rtol=1e-4, atol=1e-9)
