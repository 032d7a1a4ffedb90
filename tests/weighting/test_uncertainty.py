from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from visionmtl.weighting import UncertaintyWeighting

BOTH = [True, True]


def set_log_variances(weighting: UncertaintyWeighting, values: Tensor) -> None:
    with torch.no_grad():
        for parameter, value in zip(weighting.log_variances, values, strict=True):
            parameter.copy_(value)


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting, losses = UncertaintyWeighting(2), torch.tensor([3.0, 5.0])
    assert weighting(losses, BOTH).item() == 8.0  # starts as equal weighting
    set_log_variances(weighting, torch.tensor([math.log(2), math.log(4)]))
    assert weighting(losses, BOTH).item() == pytest.approx(3 / 2 + 5 / 4 + math.log(8) / 2)
    torch.testing.assert_close(weights_of(weighting, losses, BOTH), torch.tensor([0.5, 0.25]))


def test_the_optimum_is_half_the_inverse_loss() -> None:
    weighting, losses = UncertaintyWeighting(2), torch.tensor([0.2, 3.0])
    set_log_variances(weighting, (2 * losses).log())
    weighting(losses, BOTH).backward()
    for parameter in weighting.parameters():
        assert parameter.grad.item() == pytest.approx(0, abs=1e-6)


def test_an_absent_task_has_no_gradient() -> None:
    weighting = UncertaintyWeighting(2)
    weighting(torch.tensor([1.0, 0.0]), [True, False]).backward()
    assert [parameter.grad is None for parameter in weighting.parameters()] == [False, True]


def test_torchjd() -> None:
    """TorchJD halves both terms: with s = s_torchjd + log 2 ours is its value plus T log(2) / 2."""
    oracle = pytest.importorskip("torchjd.scalarization").UW(3)
    weighting = UncertaintyWeighting(3)
    set_log_variances(weighting, torch.full((3,), math.log(2)))
    ours, theirs = (torch.optim.SGD(module.parameters(), lr=0.1) for module in (weighting, oracle))
    for losses in torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 5:
        value, expected = weighting(losses, [True] * 3), oracle(losses)
        torch.testing.assert_close(value, expected + 1.5 * math.log(2))
        for optimizer, loss in ((ours, value), (theirs, expected)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(
        torch.stack([*weighting.log_variances]), oracle.log_var + math.log(2)
    )
