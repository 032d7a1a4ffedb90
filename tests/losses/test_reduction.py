from __future__ import annotations

import math

import pytest
import torch

from visionmtl.losses.reduction import count_valid, divide, full_precision, masked_mean


def test_golden_value() -> None:
    values = torch.tensor([[1.0, 2.0], [6.0, 100.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert masked_mean(values, valid).item() == 3.0


def test_nothing_valid_is_zero_with_a_graph() -> None:
    values = torch.tensor([1.0, math.nan, math.inf], requires_grad=True)
    loss = masked_mean(values, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 0.0, 0.0]


def test_invalid_values_have_no_influence() -> None:
    values = torch.tensor([2.0, math.nan, 4.0], requires_grad=True)
    loss = masked_mean(values, torch.tensor([True, False, True]))
    loss.backward()
    assert loss.item() == 3.0
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.0, 0.5]


def test_valid_nan_is_kept() -> None:
    assert masked_mean(torch.tensor([math.nan, 1.0]), torch.tensor([True, True])).isnan()


def test_shapes_must_agree() -> None:
    with pytest.raises(AssertionError, match=r"\(2, 1\) and valid \(2,\)"):
        masked_mean(torch.ones(2, 1), torch.ones(2, dtype=torch.bool))


def test_the_count_may_come_from_elsewhere() -> None:
    values, valid = torch.tensor([2.0, math.nan, 4.0]), torch.tensor([True, False, True])
    assert count_valid(valid).item() == 2.0
    assert masked_mean(values, valid, torch.tensor([12.0])).item() == 0.5
    assert masked_mean(values, ~valid & False, torch.tensor([0.0])).item() == 0.0


def test_division_by_nothing_keeps_the_numerator() -> None:
    assert divide(torch.tensor(3.0), torch.tensor(0.0)).item() == 3.0
    assert divide(torch.tensor(3.0), torch.tensor(0.5)).item() == 6.0
    assert divide(torch.tensor(3.0), torch.tensor(math.nan)).isnan()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_full_precision(given: torch.dtype, expected: torch.dtype) -> None:
    assert full_precision(torch.ones(1, dtype=given)).dtype == expected
