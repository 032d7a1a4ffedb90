"""Reductions that every loss shares."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """``x`` in at least float32: no loss is computed in half precision, whatever autocast made of the prediction."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` where ``valid``; 0 with a zero gradient where nothing is valid.

    What ``values`` holds elsewhere has no influence, NaN included. Its *gradient* there is stopped too, but a function
    with an infinite derivative in front of it would turn that zero into NaN: mask the inputs of such a function.

    Args:
        values: any shape.
        valid: bool, the shape of ``values``.

    Returns:
        A scalar.
    """
    assert values.shape == valid.shape, f"values {tuple(values.shape)} and valid {tuple(valid.shape)} differ"
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)
