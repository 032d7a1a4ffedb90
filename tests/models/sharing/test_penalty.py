from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from visionmtl.models.backbone import create_backbone
from visionmtl.models.decoders import FPN
from visionmtl.models.sharing import HardSharing, IndependentSharing, Sharing
from visionmtl.models.sharing.cross_stitch import CrossStitch
from visionmtl.models.sharing.penalty import (
    PENALTIES,
    common_layers,
    l2_distance,
    trace_norm,
)

ALL = (0, 1, 2, 3)
LEVELS = {"semseg": ALL, "depth": ALL, "detection": (1, 2, 3)}


def build(
    scheme: type[Sharing] = IndependentSharing,
    levels: dict[str, tuple[int, ...]] = LEVELS,
    **options: Any,
) -> Sharing:
    parts = partial(create_backbone, "test_resnet"), partial(FPN, channels=8)
    return scheme.build(levels, *parts, **options)


def soft_sharing_penalty(kind: str, sharing: Sharing) -> Tensor:
    return PENALTIES[kind](common_layers(sharing))


def nuclear(layers: Sequence[Sequence[Tensor]]) -> Tensor:
    matrices = [torch.stack([w.flatten() for w in layer]) for layer in layers]
    return torch.stack([torch.linalg.matrix_norm(m, ord="nuc") for m in matrices]).sum()


def random_layers(dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    shapes = [(3, (4, 2, 3, 3)), (3, (5, 7)), (2, (6, 1, 3, 3))]  # one layer that a task lacks
    return [
        [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(num)]
        for num, shape in shapes
    ]


def grads(value: Tensor, layers: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, [w for layer in layers for w in layer])


def test_l2_golden() -> None:
    pair = [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 5.0]])]
    assert l2_distance([pair]).item() == 10  # half of 2^2 + 4^2
    assert l2_distance([pair, pair]).item() == 20
    assert l2_distance([[torch.full((1, 1), value) for value in (0.0, 3.0, 6.0)]]).item() == 18


def test_l2_gradient_pulls_to_the_mean() -> None:
    weights = [torch.randn(3, 4, requires_grad=True) for _ in range(3)]
    mean = torch.stack(weights).mean(0)
    for weight, grad in zip(weights, grads(l2_distance([weights]), [weights]), strict=True):
        torch.testing.assert_close(grad, 2 * (weight - mean))


def test_trace_norm_golden() -> None:
    rows = [torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])]
    assert trace_norm([rows]).item() == pytest.approx(7)
    assert trace_norm([[rows[0], rows[0]]]).item() == pytest.approx(3 * 2**0.5)


def test_trace_norm_equals_the_sum_of_singular_values() -> None:
    layers = random_layers()
    found, expected = trace_norm(layers), nuclear(layers)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for p, q in zip(grads(found, layers), grads(expected, layers), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def test_trace_norm_in_lower_precision() -> None:
    layers = random_layers(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(trace_norm(layers), nuclear(layers), rtol=1e-5, atol=0)
    half = [[w.detach().bfloat16() for w in layer] for layer in layers]
    assert trace_norm(half).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e6])
def test_trace_norm_of_equal_trunks(scale: float, dtype: torch.dtype) -> None:
    weight = scale * torch.randn(5, 4, 3, 3, dtype=dtype)
    layers = [[weight.clone().requires_grad_() for _ in range(4)]]
    value = trace_norm(layers)
    torch.testing.assert_close(value, 2 * weight.norm())
    if scale >= 1:  # the gradient of 2 |W|, shared by four
        expected = weight / (2 * weight.norm())
        assert all(torch.allclose(grad, expected, atol=1e-4) for grad in grads(value, layers))
    assert all(grad.isfinite().all() for grad in grads(trace_norm(layers), layers))


def test_trace_norm_of_a_zero_layer_beside_others() -> None:
    layers = [
        *random_layers(),
        [torch.zeros(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)],
    ]
    value = trace_norm(layers)
    torch.testing.assert_close(value, nuclear(layers[:-1]))
    assert all(grad.isfinite().all() for grad in grads(value, layers))


@pytest.mark.parametrize("scheme", [IndependentSharing, CrossStitch])
@pytest.mark.parametrize("kind", list(PENALTIES))
def test_acts_on_the_weights_that_trunks_have_in_common(kind: str, scheme: type[Sharing]) -> None:
    sharing = build(scheme)
    value = soft_sharing_penalty(kind, sharing)
    assert value.shape == ()
    assert value > 0
    value.backward()
    unread = {f"trunks.detection.1.{part}.0.weight" for part in ("lateral", "output")}
    for name, parameter in sharing.named_parameters():
        compared = name.startswith("trunks") and parameter.ndim >= 2 and name not in unread
        assert (parameter.grad is not None) == compared, name


def test_value_on_a_model() -> None:
    sharing = build().double()
    names = [name for name, p in sharing.trunks["semseg"].named_parameters() if p.ndim >= 2]
    trunks = [dict(sharing.trunks[task].named_parameters()) for task in LEVELS]
    layers = [
        [
            t[name]
            for t in (trunks[:2] if name in ("1.lateral.0.weight", "1.output.0.weight") else trunks)
        ]
        for name in names
    ]
    torch.testing.assert_close(soft_sharing_penalty("trace_norm", sharing), nuclear(layers))
    expected = sum(
        (w - torch.stack(layer).mean(0)).square().sum() for layer in layers for w in layer
    )
    torch.testing.assert_close(soft_sharing_penalty("l2_distance", sharing), expected)


def test_equal_trunks_have_no_distance() -> None:
    sharing = build()
    for task in LEVELS:
        sharing.trunks[task].load_state_dict(sharing.trunks["semseg"].state_dict())
    assert soft_sharing_penalty("l2_distance", sharing).item() == pytest.approx(0, abs=1e-8)
    value = soft_sharing_penalty("trace_norm", sharing)
    value.backward()
    assert value.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in sharing.parameters())


@pytest.mark.parametrize("kind", list(PENALTIES))
def test_descent_brings_trunks_together(kind: str) -> None:
    layers = random_layers()
    weights = [w for layer in layers for w in layer]
    before = l2_distance(layers).item()
    optimizer = torch.optim.SGD(weights, lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        PENALTIES[kind](layers).backward()
        optimizer.step()
    assert l2_distance(layers).item() < 0.95 * before


def test_the_scheme_gives_the_weighted_penalty() -> None:
    sharing = build(penalty="trace_norm", penalty_weight=0.25)
    torch.testing.assert_close(
        sharing.penalty(), 0.25 * soft_sharing_penalty("trace_norm", sharing)
    )
    sharing.penalty().backward()
    assert sharing.trunks["depth"][1].lateral[0].weight.grad is not None


@pytest.mark.parametrize("scheme", [IndependentSharing, CrossStitch, HardSharing])
def test_no_penalty_unless_asked_for(scheme: type[Sharing]) -> None:
    assert build(scheme).penalty() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"penalty": "l1"},
            "^IndependentSharing: penalty: unknown value 'l1'; known: l2_distance, trace_norm$",
        ),
        ({"penalty_weight": -1.0}, "^IndependentSharing: penalty_weight: must be >= 0, got -1.0$"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_penalty_needs_two_tasks() -> None:
    message = r"^model.sharing.penalty: needs at least two tasks, the model has \['depth'\]$"
    with pytest.raises(ValueError, match=message):
        build(levels={"depth": ALL}, penalty="l2_distance")
    message = r"^CrossStitch: penalty: unknown option; known: alpha, lr_scale$"
    with pytest.raises(ValueError, match=message):
        build(CrossStitch, penalty="l2_distance")
