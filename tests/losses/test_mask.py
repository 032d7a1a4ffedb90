from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionmtl.losses.mask import BalancedBCELoss, EdgeBCELoss
from visionmtl.types import DenseTargets

each_loss = pytest.mark.parametrize(
    "loss", [BalancedBCELoss(), EdgeBCELoss(), BalancedBCELoss(positive_weight=0.5)], ids=str
)


def make_targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = torch.ones_like(value, dtype=torch.bool) if valid is None else valid
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def row(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)


def random_case(seed: int = 0) -> tuple[Tensor, DenseTargets]:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 1, 5, 6, generator=rng)
    value = (torch.rand(3, 5, 6, generator=rng) > 0.8).byte()
    return logits, make_targets(value, torch.rand(3, 5, 6, generator=rng) > 0.3)


def test_positives_and_negatives_weigh_the_same() -> None:
    # one positive of four pixels, all at probability 1/2: w = 3/4, so 3/4 ln 2 + 3 * 1/4 ln 2, over
    # 4
    loss = BalancedBCELoss()(torch.zeros(1, 1, 1, 4), make_targets(row(1, 0, 0, 0)))
    assert loss.item() == pytest.approx((0.75 + 0.75) * math.log(2) / 4)


def test_a_fixed_weight() -> None:
    loss = EdgeBCELoss()(torch.zeros(1, 1, 1, 4), make_targets(row(1, 0, 0, 0)))
    assert loss.item() == pytest.approx((0.95 + 3 * 0.05) * math.log(2) / 4)
    assert EdgeBCELoss(positive_weight=0.7).positive_weight == 0.7
    assert EdgeBCELoss(positive_weight=None).positive_weight is None


@pytest.mark.parametrize("weight", [None, 0.95, 0.2])
def test_equals_numpy_in_float64(weight: float | None) -> None:
    logits, targets = random_case()
    valid = targets.valid.numpy()
    p = 1 / (1 + np.exp(-logits.double().squeeze(1).numpy()[valid]))
    y = targets.value.numpy()[valid]
    w = (y == 0).mean() if weight is None else weight
    expected = -(w * np.log(p[y == 1]).sum() + (1 - w) * np.log(1 - p[y == 0]).sum()) / len(y)
    assert BalancedBCELoss(positive_weight=weight)(
        logits.double(), targets
    ).item() == pytest.approx(expected, rel=1e-6)


def test_balance_is_that_of_the_whole_batch() -> None:
    """Two halves of very different balance: what they add up to is the loss of the whole."""
    logits, targets = random_case()
    targets.value[0] = 1
    loss = BalancedBCELoss()
    parts = [
        (logits[own], make_targets(targets.value[own], targets.valid[own]))
        for own in (slice(1), slice(1, 3))
    ]
    counts = torch.stack([loss.counts(part) for _, part in parts]).sum(0)
    assert counts.tolist() == loss.counts(targets).tolist()
    total = sum(loss(prediction, part, counts) for prediction, part in parts)
    torch.testing.assert_close(total, loss(logits, targets))
    alone = sum(loss(prediction, part) for prediction, part in parts)
    assert not torch.isclose(alone, loss(logits, targets))


@each_loss
def test_nothing_valid_is_zero_with_zero_gradient(loss: nn.Module) -> None:
    logits, targets = random_case()
    logits.requires_grad_()
    value = loss(logits, make_targets(targets.value, torch.zeros_like(targets.valid)))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


@each_loss
@pytest.mark.parametrize("everywhere", [0, 1])
def test_one_class_only_is_finite(loss: BalancedBCELoss, everywhere: int) -> None:
    logits = random_case()[0].requires_grad_()
    value = loss(logits, make_targets(torch.full((3, 5, 6), everywhere, dtype=torch.uint8)))
    value.backward()
    assert value.item() == 0.0 if loss.positive_weight is None else value.item() > 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@each_loss
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_invalid_pixels_have_no_influence(loss: nn.Module, poison: float) -> None:
    logits, targets = random_case()
    invalid = ~targets.valid.unsqueeze(1)
    poisoned = logits.masked_fill(invalid, poison).requires_grad_()
    value = loss(poisoned, targets)
    value.backward()
    torch.testing.assert_close(value, loss(logits, targets))
    assert poisoned.grad is not None
    assert poisoned.grad.isfinite().all()
    assert not poisoned.grad[invalid].any()


@each_loss
def test_nan_at_a_valid_pixel_is_reported(loss: nn.Module) -> None:
    logits, targets = random_case()
    targets.valid[0, 0, 0] = True
    logits[0, 0, 0, 0] = math.nan
    assert loss(logits, targets).isnan()


@each_loss
def test_extreme_logits_are_finite(loss: nn.Module) -> None:
    logits, targets = random_case()
    assert loss(1e4 * logits, targets).isfinite()
    right = torch.where(targets.value > 0, 1e4, -1e4).unsqueeze(1)
    assert loss(right, targets).item() == 0.0


@each_loss
def test_gradient(loss: nn.Module) -> None:
    logits, targets = random_case()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.double().requires_grad_())


@each_loss
def test_bfloat16_prediction_gives_a_float32_loss(loss: nn.Module) -> None:
    logits, targets = random_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.bfloat16(), targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.bfloat16().float(), targets))


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.5, math.nan])
def test_bad_weight(weight: float) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^EdgeBCELoss: positive_weight: must be (> 0|< 1|finite), got {weight}$",
    ):
        EdgeBCELoss(positive_weight=weight)
