from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import DynamicWeightAverage

BOTH = [True, True]


def after_epochs(*means: list[float], **options: float) -> DynamicWeightAverage:
    weighting = DynamicWeightAverage(len(means[0]), **options)
    for row in means:
        weighting.end_epoch(torch.tensor(row))
    return weighting


def test_weights_after_two_epochs(weights_of: Any) -> None:
    weighting = after_epochs([4.0, 2.0], [2.0, 2.0])
    a, b = math.exp(0.5 / 2), math.exp(1.0 / 2)
    expected = torch.tensor([2 * a / (a + b), 2 * b / (a + b)])
    torch.testing.assert_close(weights_of(weighting, torch.tensor([7.0, 9.0]), BOTH), expected)


def test_the_first_two_epochs_have_equal_weights(weights_of: Any) -> None:
    for weighting in (DynamicWeightAverage(2), after_epochs([4.0, 1.0])):
        assert weights_of(weighting, torch.tensor([7.0, 9.0]), BOTH).tolist() == [1.0, 1.0]


def test_weights_sum_to_the_number_of_present_tasks(weights_of: Any) -> None:
    weighting = after_epochs([4.0, 2.0, 1.0], [2.0, 2.0, 0.9])
    for present in ([True, True, True], [True, False, True], [False, True, False]):
        assert weights_of(weighting, torch.ones(3), present).sum().item() == pytest.approx(
            sum(present)
        )


def test_an_epoch_without_truth_does_not_count() -> None:
    weighting = after_epochs([4.0, 2.0], [3.0, math.nan], [2.0, 1.0])
    assert weighting.earlier.tolist() == [3.0, 2.0]
    assert weighting.latest.tolist() == [2.0, 1.0]


def test_a_loss_that_was_zero_is_neutral(weights_of: Any) -> None:
    for first, second in ((0.0, 0.0), (0.0, 1.0), (1e-38, 1e38)):
        weighting = after_epochs([first, 1.0], [second, 1.0])
        assert weights_of(weighting, torch.ones(2), BOTH).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(
        ValueError, match=r"^DynamicWeightAverage: temperature: must be (> 0|finite), got"
    ):
        DynamicWeightAverage(2, temperature=temperature)


def test_torchjd() -> None:
    oracle = pytest.importorskip("torchjd.scalarization").DWA(temperature=1.5)
    weighting = DynamicWeightAverage(3, temperature=1.5)
    for epoch in torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(0)) + 0.1:
        for losses in epoch:
            torch.testing.assert_close(weighting(losses, [True] * 3), oracle(losses))
        weighting.end_epoch(epoch.mean(dim=0))
        oracle.step()
