"""Reductions that every loss shares."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """``x`` in at least float32, whatever autocast made of the prediction."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def count_valid(valid: Tensor) -> Tensor:
    """How often ``valid`` is True, a float32 scalar."""
    return valid.sum().float()


def divide(numerator: Tensor, count: Tensor) -> Tensor:
    """``numerator / count``, or ``numerator`` where the count is 0."""
    return numerator / torch.where(count == 0, 1.0, count)


def masked_mean(values: Tensor, valid: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean of ``values`` where ``valid``; 0 with a zero gradient where nothing is valid.

    What ``values`` holds elsewhere has no influence, NaN included. Its *gradient* there is stopped
    too, but a function with an infinite derivative in front of it would turn that zero into NaN:
    mask the inputs of such a function.

    Args:
        values: any shape.
        valid: bool, the shape of ``values``.
        counts: (1,), what the sum is divided by; None for the number of valid values.

    Returns:
        A scalar.
    """
    shapes = f"values {tuple(values.shape)} and valid {tuple(valid.shape)}"
    assert values.shape == valid.shape, f"{shapes} differ"
    total = torch.where(valid, values, 0.0).sum()
    if counts is None:
        return divide(total, count_valid(valid))
    return divide(total, counts.squeeze(0))
