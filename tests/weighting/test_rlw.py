from __future__ import annotations

from typing import Any

import pytest
import torch

from visionmtl.weighting import RandomLossWeighting

ALL = [True, True, True]


def test_weights_are_the_softmax_of_normal_draws(weights_of: Any) -> None:
    draws = torch.randn(3, generator=torch.Generator().manual_seed(5))
    weights = weights_of(RandomLossWeighting(3), torch.tensor([1.0, 2.0, 3.0]), ALL, 5)
    torch.testing.assert_close(weights, draws.exp() / draws.exp().sum())


def test_weights_are_new_in_each_step_and_sum_to_one(weights_of: Any) -> None:
    weights = torch.stack(
        [weights_of(RandomLossWeighting(3), torch.ones(3), ALL, step) for step in range(400)]
    )
    assert len(weights.unique(dim=0)) == 400
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(weights.mean(dim=0), torch.full((3,), 1 / 3), atol=0.05, rtol=0)


def test_the_number_type_of_the_losses() -> None:
    assert RandomLossWeighting(3)(torch.ones(3, dtype=torch.float64), ALL).dtype == torch.float64


def test_torchjd() -> None:
    oracle = pytest.importorskip("torchjd.scalarization").Random()
    losses = torch.tensor([1.0, 2.0, 3.0])
    for seed in range(20):
        torch.manual_seed(seed)
        expected = oracle(losses)
        value = RandomLossWeighting(3)(losses, ALL, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(value, expected)
