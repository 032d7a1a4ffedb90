from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.types import DenseTargets

each_loss = pytest.mark.parametrize(
    "loss", [CosineNormalsLoss(), AngularNormalsLoss()], ids=["cosine", "angular"]
)


def make_targets(value: Tensor, valid: Tensor) -> DenseTargets:
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def random_case(seed: int = 0) -> tuple[Tensor, DenseTargets]:
    rng = torch.Generator().manual_seed(seed)
    prediction, value = (
        F.normalize(torch.randn(2, 3, 4, 5, generator=rng), dim=1) for _ in range(2)
    )
    return prediction, make_targets(value, torch.rand(2, 4, 5, generator=rng) > 0.3)


def pixel(x: float, y: float, z: float) -> Tensor:
    return torch.tensor([x, y, z]).view(1, 3, 1, 1)


@pytest.mark.parametrize("degrees", [0.0, 0.1, 30.0, 90.0, 150.0, 180.0])
def test_golden_angles(degrees: float) -> None:
    angle = math.radians(degrees)
    targets = make_targets(pixel(0.0, 0.0, -1.0), torch.ones(1, 1, 1, dtype=torch.bool))
    prediction = pixel(math.sin(angle), 0.0, -math.cos(angle))
    assert CosineNormalsLoss()(prediction, targets).item() == pytest.approx(
        1 - math.cos(angle), rel=1e-4, abs=1e-12
    )
    assert AngularNormalsLoss()(prediction, targets).item() == pytest.approx(
        angle, rel=1e-4, abs=2e-6
    )


def test_equals_numpy() -> None:
    prediction, targets = random_case()
    cos = (prediction.double() * targets.value.double()).sum(1).numpy()[targets.valid.numpy()]
    assert CosineNormalsLoss()(prediction, targets).item() == pytest.approx(
        (1 - cos).mean(), rel=1e-5
    )
    assert AngularNormalsLoss()(prediction, targets).item() == pytest.approx(
        np.arccos(cos).mean(), rel=1e-5
    )


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
@pytest.mark.parametrize("poison", [math.nan, math.inf, 0.0])
def test_invalid_pixels_have_no_influence(loss: nn.Module, poison: float) -> None:
    prediction, targets = random_case()
    expected = loss(prediction, targets)
    invalid = ~targets.valid.unsqueeze(1).expand(-1, 3, -1, -1)
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
    prediction[0, 1, 0, 0] = math.nan
    assert loss(prediction, targets).isnan()


@each_loss
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0], ids=["equal", "opposite", "zero"])
def test_gradient_stays_finite(loss: nn.Module, sign: float) -> None:
    _, targets = random_case()
    prediction = (sign * targets.value).requires_grad_()
    value = loss(prediction, targets)
    value.backward()
    assert value.item() >= 0.0
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    if sign == 1.0:
        assert value.item() <= AngularNormalsLoss.eps * 1.01
        assert prediction.grad.abs().max() < 0.1  # no push away from the truth


@each_loss
def test_gradient(loss: nn.Module) -> None:
    prediction, targets = random_case()
    targets.value = targets.value.double()
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
