from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.types import DenseTargets

ALL = [DepthL1Loss(), BerHuLoss(), SILogLoss(), SILogLoss(variance_focus=1.0, alpha=1.0)]
each_loss = pytest.mark.parametrize("loss", ALL, ids=["l1", "berhu", "silog", "silog-invariant"])


def make_targets(value: Tensor, valid: Tensor) -> DenseTargets:
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def row(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def all_valid(value: Tensor) -> DenseTargets:
    return make_targets(value, torch.ones_like(value[:, 0], dtype=torch.bool))


def random_case(seed: int = 0) -> tuple[Tensor, DenseTargets]:
    rng = torch.Generator().manual_seed(seed)
    prediction, value = (torch.rand(2, 1, 5, 6, generator=rng) * 9 + 0.5 for _ in range(2))
    return prediction, make_targets(value, torch.rand(2, 5, 6, generator=rng) > 0.3)


def test_l1_golden_value() -> None:
    assert DepthL1Loss()(row(1.0, 2.0, 5.0), all_valid(row(2.0, 2.0, 3.0))).item() == 1.0


def test_berhu_golden_value() -> None:
    # errors 0.5, 1, 5: c = 1, so 0.5 + 1 + (25 + 1) / 2
    loss = BerHuLoss()(row(1.5, 3.0, 1.0), all_valid(row(1.0, 2.0, 6.0)))
    assert loss.item() == pytest.approx((0.5 + 1.0 + 13.0) / 3)


def test_berhu_threshold_comes_from_valid_pixels() -> None:
    valid = torch.tensor([[[True, True, False]]])
    loss = BerHuLoss(threshold=0.5)(row(2.0, 4.0, 1000.0), make_targets(row(1.0, 2.0, 1.0), valid))
    assert loss.item() == pytest.approx((1.0 + (4 + 1) / 2) / 2)


def test_berhu_gradient_ignores_the_threshold() -> None:
    prediction = row(1.5, 3.0, 1.0).requires_grad_()
    BerHuLoss()(prediction, all_valid(row(1.0, 2.0, 6.0))).backward()
    assert prediction.grad is not None
    assert prediction.grad.flatten().tolist() == pytest.approx([1 / 3, 1 / 3, -5 / 3])


@pytest.mark.parametrize(
    ("variance_focus", "alpha"), [(0.85, 10.0), (0.5, 1.0), (0.0, 2.0), (1.0, 1.0)]
)
def test_silog_equals_numpy(variance_focus: float, alpha: float) -> None:
    prediction, targets = random_case()
    valid = targets.valid.numpy()
    d = np.log(prediction[:, 0].double().numpy()[valid]) - np.log(
        targets.value[:, 0].double().numpy()[valid]
    )
    expected = alpha * np.sqrt((d**2).mean() - variance_focus * d.mean() ** 2)
    assert SILogLoss(variance_focus=variance_focus, alpha=alpha)(
        prediction, targets
    ).item() == pytest.approx(expected, rel=1e-5)


def test_silog_ignores_scale_at_full_focus() -> None:
    _, targets = random_case()
    assert SILogLoss(variance_focus=1.0)(3 * targets.value, targets).item() == pytest.approx(
        0.0, abs=1e-4
    )
    assert SILogLoss(variance_focus=0.0, alpha=1.0)(
        3 * targets.value, targets
    ).item() == pytest.approx(math.log(3))


def test_silog_survives_depths_that_are_not_positive() -> None:
    prediction = row(0.0, -1.0, 2.0).requires_grad_()
    loss = SILogLoss()(prediction, all_valid(row(1.0, 1.0, 0.0)))
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@each_loss
def test_nothing_valid_is_zero_with_zero_gradient(loss: nn.Module) -> None:
    prediction, targets = random_case()
    prediction.requires_grad_()
    value = loss(
        prediction, make_targets(targets.value * math.nan, torch.zeros_like(targets.valid))
    )
    value.backward()
    assert value.item() == 0.0
    assert prediction.grad is not None
    assert not prediction.grad.any()


@each_loss
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 0.0])
def test_invalid_pixels_have_no_influence(loss: nn.Module, poison: float) -> None:
    prediction, targets = random_case()
    expected = loss(prediction, targets)
    invalid = ~targets.valid.unsqueeze(1)
    poisoned = prediction.masked_fill(invalid, math.nan).requires_grad_()
    value = loss(poisoned, make_targets(targets.value.masked_fill(invalid, poison), targets.valid))
    value.backward()
    torch.testing.assert_close(value, expected)
    assert poisoned.grad is not None
    assert poisoned.grad.isfinite().all()
    assert not poisoned.grad[invalid].any()


@each_loss
def test_nan_at_a_valid_pixel_is_reported(loss: nn.Module) -> None:
    prediction, targets = random_case()
    targets.valid[0, 0, 0] = True
    prediction[0, 0, 0, 0] = math.nan
    assert loss(prediction, targets).isnan()


@each_loss
def test_perfect_prediction_is_zero_with_finite_gradient(loss: nn.Module) -> None:
    _, targets = random_case()
    prediction = targets.value.clone().requires_grad_()
    value = loss(prediction, targets)
    value.backward()
    assert value.item() == 0.0
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("loss", [DepthL1Loss(), SILogLoss()], ids=["l1", "silog"])
def test_gradient(loss: nn.Module) -> None:
    prediction, targets = random_case()
    assert torch.autograd.gradcheck(
        lambda p: loss(p, targets), prediction.double().requires_grad_()
    )


@each_loss
def test_bfloat16_prediction_gives_a_float32_loss(loss: nn.Module) -> None:
    prediction, targets = random_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(prediction.bfloat16(), targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(prediction.bfloat16().float(), targets))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BerHuLoss(threshold=0.0), "^BerHuLoss: threshold: must be > 0, got 0.0$"),
        (lambda: BerHuLoss(threshold=math.nan), "^BerHuLoss: threshold: must be finite, got nan$"),
        (
            lambda: SILogLoss(variance_focus=1.5),
            "^SILogLoss: variance_focus: must be <= 1, got 1.5$",
        ),
        (lambda: SILogLoss(alpha=0.0), "^SILogLoss: alpha: must be > 0, got 0.0$"),
    ],
)
def test_bad_options(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()
