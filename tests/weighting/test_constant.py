from __future__ import annotations

import math

import pytest
import torch

from visionmtl.weighting import WEIGHTINGS, ConstantWeighting, LossWeighting


def test_golden_value_and_gradient() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    total = ConstantWeighting([1.0, 0.5, 2.0])(losses, [True, True, True])
    total.backward()
    assert total.item() == 8.0
    assert losses.grad is not None
    assert losses.grad.tolist() == [1.0, 0.5, 2.0]


def test_absent_tasks_are_dropped() -> None:
    losses = torch.tensor([1.0, math.nan, 3.0], requires_grad=True)
    total = ConstantWeighting([1.0, 1.0, 2.0])(losses, [True, False, True])
    total.backward()
    assert total.item() == 7.0
    assert losses.grad is not None
    assert losses.grad.tolist() == [1.0, 0.0, 2.0]


def test_nothing_present_is_zero_with_a_graph() -> None:
    losses = torch.zeros(2, requires_grad=True)
    total = ConstantWeighting([1.0, 1.0])(losses, [False, False])
    total.backward()
    assert total.item() == 0.0


def test_nan_of_a_present_task_is_kept() -> None:
    assert ConstantWeighting([1.0, 1.0])(torch.tensor([1.0, math.nan]), [True, True]).isnan()


def test_present_must_have_one_entry_per_task() -> None:
    with pytest.raises(ValueError, match="zip"):
        ConstantWeighting([1.0, 1.0])(torch.ones(2), [True])


def test_weights_are_in_the_state() -> None:
    weighting = ConstantWeighting([1.0, 3.0])
    other = ConstantWeighting([1.0, 1.0])
    other.load_state_dict(weighting.state_dict())
    assert other.weights.tolist() == [1.0, 3.0]
    assert weighting.num_tasks == 2


@pytest.mark.parametrize("weights", [[1.0, -1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0], []])
def test_bad_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights must be finite, >= 0 and not all zero, got \["):
        ConstantWeighting(weights)


def test_names() -> None:
    assert WEIGHTINGS["constant"] is ConstantWeighting


def test_the_base_class_is_a_contract_only() -> None:
    with pytest.raises(NotImplementedError):
        LossWeighting(2)(torch.ones(2), [True, True])
