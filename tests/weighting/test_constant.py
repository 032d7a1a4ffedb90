from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import ConstantWeighting
from visionmtl.weighting.rows import present_rows


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting, losses = ConstantWeighting(3, weights=[1.0, 0.5, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    assert weighting(losses, [True, True, True]).item() == 8.0
    assert weights_of(weighting, losses, [True, True, True]).tolist() == [1.0, 0.5, 2.0]
    assert weights_of(weighting, losses, [True, False, True]).tolist() == [1.0, 0.0, 2.0]


def test_all_weights_are_one_if_none_are_given() -> None:
    assert ConstantWeighting(3).weights.tolist() == [1.0, 1.0, 1.0]


def test_weights_are_in_the_state() -> None:
    other = ConstantWeighting(2)
    other.load_state_dict(ConstantWeighting(2, weights=[1.0, 3.0]).state_dict())
    assert other.weights.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("weights", [[1.0, -1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]])
def test_bad_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights must be finite, >= 0 and not all zero, got \["):
        ConstantWeighting(2, weights=weights)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 1.0, 1.0]])
def test_number_of_weights(weights: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"weights must have one number for each of 2 tasks, got \["
    ):
        ConstantWeighting(2, weights=weights)


def test_present_rows() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert present_rows(values, [True, False, True]).tolist() == [1.0, 3.0]
    assert present_rows(values, [False, False, False]).shape == (0,)
