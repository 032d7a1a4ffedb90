from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visionmtl.metrics.depth import DepthMetric
from visionmtl.metrics.disparity import DisparityMetric
from visionmtl.tasks import TaskSpec
from visionmtl.types import DenseTargets

TASK = TaskSpec.disparity(100.0)


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = torch.ones_like(value[:, 0], dtype=torch.bool) if valid is None else valid
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def random_batch(seed: int = 0) -> tuple[Tensor, DenseTargets]:
    rng = torch.Generator().manual_seed(seed)
    truth = 90 * torch.rand(4, 1, 6, 8, generator=rng) + 1
    prediction = (truth * (0.5 + torch.rand(truth.shape, generator=rng))).clamp(max=100)
    return prediction, targets(truth, torch.rand(4, 6, 8, generator=rng) > 0.3)


def compute(*batches: tuple[Tensor, DenseTargets], task: TaskSpec = TASK) -> dict[str, float]:
    metric = task.kind.make_metric()
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def test_golden_value() -> None:
    found = compute((torch.tensor([[[[20.0, 40.0]]]]), targets(torch.tensor([[[[10.0, 40.0]]]]))))
    expected = {
        "abs_err": 5,
        "abs_rel": 0.5,
        "rmse": math.sqrt(50),
        "delta1": 50,
        "delta2": 50,
        "delta3": 50,
    }
    assert found == pytest.approx(expected)
    assert list(found) == list(DisparityMetric.higher_is_better_by_key)


def test_errors_are_those_of_depth() -> None:
    prediction, target = random_batch()
    same = DepthMetric(100.0)
    same.update(prediction, target)
    found = compute((prediction, target))
    assert found == {key: same.compute()[key] for key in found}


def test_shares_are_those_of_the_depths() -> None:
    """Depth is baseline * focal length / disparity; the ratio of two depths knows neither."""
    prediction, target = random_batch()
    depth = DepthMetric(1000.0, 1e-6)
    depth.update(50 / prediction, targets(50 / target.value, target.valid))
    found, inverse = compute((prediction, target)), depth.compute()
    for key in ("delta1", "delta2", "delta3"):
        assert 0 < found[key] < 100
        assert found[key] == inverse[key]


def test_every_valid_disparity_counts() -> None:
    """Far points have small disparities, whatever the unit."""
    truth = torch.tensor([[[[1e-4, 0.5]]]])
    found = compute((torch.tensor([[[[2e-4, 0.5]]]]), targets(truth)), task=TaskSpec.disparity(1.0))
    assert found["abs_rel"] == pytest.approx(0.5)
    assert compute((torch.zeros(1, 1, 1, 2), targets(truth)))["delta3"] == 0


def test_nothing_valid_is_nan() -> None:
    prediction, target = random_batch()
    found = compute((prediction, targets(target.value, torch.zeros_like(target.valid))))
    assert all(math.isnan(value) for value in found.values())


def test_wrong_shape() -> None:
    with pytest.raises(
        ValueError, match=r"disparity: expected values of shape \(1, 1, 4, 4\), got \(1, 4, 4\)"
    ):
        DisparityMetric(100.0).update(torch.ones(1, 4, 4), targets(torch.ones(1, 1, 4, 4)))
