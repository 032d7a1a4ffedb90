from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from visionmtl.models.backbone import create_backbone
from visionmtl.models.decoders import FPN, BiFPN, Decoder
from visionmtl.models.sharing.mtan import MTAN
from visionmtl.types import Pyramid

LEVELS: dict[str, tuple[int, ...]] = {"semseg": (0, 1, 2, 3), "depth": (0, 1, 2, 3)}


class Finest(Decoder):
    """Reads nothing beyond c3."""

    def __init__(self, in_channels: Sequence[int], channels: int = 8) -> None:
        super().__init__(channels)
        self.lateral = nn.Conv2d(in_channels[1], channels, 1)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        self.given = len(pyramid)
        return [self.lateral(pyramid[1])]

    def inputs_reaching(self, levels: Sequence[int]) -> list[int]:
        return [1]


def build(
    backbone: str = "test_resnet",
    levels: dict[str, tuple[int, ...]] = LEVELS,
    decoder: type[Decoder] = FPN,
) -> MTAN:
    torch.manual_seed(0)
    return MTAN.build(levels, lambda: create_backbone(backbone), partial(decoder, channels=8))


def randomise(module: nn.Module) -> None:
    """Give batch norm weights and statistics of its own."""
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    value.add_(torch.rand(value.shape))


def decoder_inputs(model: MTAN, image: Tensor) -> dict[str, Pyramid]:
    """What each decoder is given."""
    given: dict[str, Pyramid] = {}
    for task, decoder in model.decoders.items():
        decoder.register_forward_pre_hook(
            lambda module, inputs, task=task: given.update({task: inputs[0]})
        )
    model(image)
    return given


@pytest.mark.parametrize("levels", [(0, 1, 2, 3), (1, 2, 3), (0,), (3,)])
@pytest.mark.parametrize("decoder", [FPN, BiFPN])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_mambaout", "pvt_v2_b0"])
def test_parameters_reaching_agrees_with_autograd(
    backbone: str, decoder: type[Decoder], levels: tuple[int, ...]
) -> None:
    model = build(backbone, {"semseg": (0, 1, 2, 3), "other": levels}, decoder)
    pyramids = model(torch.randn(2, 3, 64, 64))
    parameters = list(model.parameters())
    for task, pyramid in pyramids.items():
        loss = sum((pyramid[level].square().sum() for level in model.levels[task]), torch.zeros(()))
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        reached = {id(p) for p, grad in zip(parameters, grads, strict=True) if grad is not None}
        listed = [id(p) for p in model.parameters_reaching(task)]
        assert len(set(listed)) == len(listed)
        if decoder is BiFPN and levels == (0,):  # lists all its parameters, see there
            reached |= {id(p) for p in model.decoders[task].parameters()}
        assert set(listed) == reached


def test_decoder_that_reads_fine_maps_only_ends_the_trunk_early() -> None:
    model = build(levels={"edge": (0,), "depth": (0,)}, decoder=Finest)
    ran: list[int] = []
    for i, stage in enumerate(model.backbone.stages):
        stage.register_forward_hook(lambda *args, i=i: ran.append(i))
    pyramids = model(torch.randn(2, 3, 64, 64))
    assert ran == [0, 1]
    assert model.decoders["edge"].given == 2
    parameters = list(model.parameters())
    grads = torch.autograd.grad(pyramids["edge"][0].sum(), parameters, allow_unused=True)
    reached = {id(p) for p, grad in zip(parameters, grads, strict=True) if grad is not None}
    assert {id(p) for p in model.parameters_reaching("edge")} == reached


def test_shared_are_the_backbone_and_the_refining_convolutions() -> None:
    model = build()
    shared = {id(p) for p in model.shared_parameters()}
    assert shared == {id(p) for part in (model.backbone, model.refine) for p in part.parameters()}
    assert model.backbones == [model.backbone]
    with pytest.raises(ValueError, match="MTAN has no trunk of its own for task 'depth'"):
        model.trunk("depth")


def test_open_masks_give_the_trunk_and_pass_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet18").eval()
    image = torch.randn(1, 3, 64, 96)
    seen: dict[tuple[str, int], Tensor] = {}

    def ones(x: Tensor, task: str, stage: int, channels: int) -> Tensor:
        seen[task, stage] = x
        return torch.ones(x.shape[0], channels, *x.shape[-2:])

    for task, modules in model.attention.items():
        assert isinstance(modules, nn.ModuleList)
        for stage, (module, c) in enumerate(zip(modules, model.backbone.channels, strict=True)):
            monkeypatch.setattr(
                module, "forward", partial(ones, task=task, stage=stage, channels=c)
            )
    with torch.no_grad():
        given, trunk = decoder_inputs(model, image), model.backbone(image)
        features = model.backbone.forward_halves(image)
        for task in LEVELS:
            assert all(torch.equal(a, c) for a, c in zip(given[task], trunk, strict=True))
            assert torch.equal(seen[task, 0], features[0][0])
            for stage in (1, 2, 3):
                refined = model.refine[stage - 1](trunk[stage - 1])
                assert torch.equal(
                    seen[task, stage], torch.cat([features[stage][0], refined], dim=1)
                )


def numpy_conv_bn(x: np.ndarray, conv: nn.Module, norm: nn.Module) -> np.ndarray:
    """Convolution (same size) and batch norm in evaluation mode, (C, H, W), float64."""
    w, gamma, beta, mean, var = (
        np.asarray(value.detach(), dtype=np.float64)
        for value in (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    k = w.shape[-1]
    windows = sliding_window_view(
        np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2))), (k, k), axis=(1, 2)
    )
    y = np.einsum("oikl,ihwkl->ohw", w, windows)
    y = (y - mean[:, None, None]) / np.sqrt(var[:, None, None] + norm.eps)
    return gamma[:, None, None] * y + beta[:, None, None]


def numpy_attended(
    u: np.ndarray, p: np.ndarray, before: np.ndarray, refine: Any, attention: Any
) -> np.ndarray:
    """Equations 1 and 2 of the paper for one stage; ``before`` is the attended map of the stage
    before it.
    """
    refined = np.maximum(numpy_conv_bn(before, refine[0][0], refine[0][1]), 0)
    c, h, w = refined.shape
    pooled = refined.reshape(c, h // 2, 2, w // 2, 2).max(axis=(2, 4))
    hidden = np.maximum(
        numpy_conv_bn(np.concatenate([u, pooled]), attention[0][0], attention[0][1]), 0
    )
    return p / (1 + np.exp(-numpy_conv_bn(hidden, attention[1], attention[2])))


def test_attended_map_equals_an_independent_float64_computation() -> None:
    model = build("resnet18").eval()
    randomise(model.refine)
    randomise(model.attention)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        given, features = decoder_inputs(model, image), model.backbone.forward_halves(image)
    attention = model.attention["depth"]
    for stage in (1, 3):
        u, p, a = (x[0].double().numpy() for x in (*features[stage], given["depth"][stage - 1]))
        expected = numpy_attended(u, p, a, model.refine[stage - 1], attention[stage])
        found = given["depth"][stage][0].numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_masks_are_those_by_which_the_decoders_read() -> None:
    model = build("resnet18").eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        masks, given, trunk = (
            model.masks(image),
            decoder_inputs(model, image),
            model.backbone(image),
        )
    assert list(masks) == ["semseg", "depth"]
    for task, maps in masks.items():
        assert [tuple(m.shape) for m in maps] == [
            (2, 64, 16, 24),
            (2, 128, 8, 12),
            (2, 256, 4, 6),
            (2, 512, 2, 3),
        ]
        for mask, a, c in zip(maps, given[task], trunk, strict=True):
            assert 0 <= mask.min() < 0.5 < mask.max() <= 1
            assert torch.equal(a, mask * c)
    assert not torch.equal(masks["semseg"][0], masks["depth"][0]), (
        "every task has its own attention"
    )


def test_only_the_asked_task_is_computed() -> None:
    model = build(levels={"semseg": (0,), "depth": (0, 1), "normals": (3,)}).eval()
    image = torch.randn(1, 3, 64, 64)
    ran: list[str] = []
    for name, module in model.named_modules():
        if name.count(".") == 1 and not name.startswith(
            "backbone"
        ):  # a task's attentions are a list, never called
            module.register_forward_hook(lambda *args, name=name: ran.append(name))
    model.backbone.stages[0].register_forward_hook(lambda *args: ran.append("trunk"))
    for task in model.levels:
        model.attention[task][0].register_forward_hook(
            lambda *args, task=task: ran.append(f"attention.{task}")
        )
    with torch.no_grad():
        everything = model(image)
        ran.clear()
        found = model(image, tasks=["depth"])
        assert sorted(ran) == [
            "attention.depth",
            "decoders.depth",
            "refine.0",
            "refine.1",
            "refine.2",
            "trunk",
        ]
        assert list(found) == ["depth"]
        assert all(
            torch.equal(a, b) for a, b in zip(found["depth"], everything["depth"], strict=True)
        )
        assert list(model(image, tasks=["normals", "semseg"])) == ["semseg", "normals"]


def test_one_step_moves_attention_refining_and_trunk() -> None:
    model = build()
    randomise(model)  # timm starts the last norm of a residual branch at zero
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    pyramids = model(torch.randn(2, 3, 64, 64))
    sum((p.square().mean() for p in pyramids["depth"]), torch.zeros(())).backward()
    optimiser.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    for name in before:
        own = name.startswith(("attention.semseg", "decoders.semseg"))
        assert (name in moved) != own, name


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_mambaout"])
def test_runs_under_bfloat16_autocast(backbone: str) -> None:
    model = build(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        pyramids = model(torch.randn(2, 3, 64, 64))
        loss = sum(
            (p.float().square().mean() for pyramid in pyramids.values() for p in pyramid),
            torch.zeros(()),
        )
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.refine[0][0][0].weight.grad.abs().sum() > 0


def test_compiles_as_one_graph() -> None:
    model = build("test_mambaout").eval()  # a stage of three blocks, in channels-last layout
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, expected = compiled(image), model(image)
    for task in LEVELS:
        for p, q in zip(found[task], expected[task], strict=True):
            torch.testing.assert_close(p, q)
    assert all(stage.kept is None for stage in model.backbone.stages)


def test_state_dict_round_trip() -> None:
    model = build().eval()
    randomise(model)
    torch.manual_seed(1)
    other = MTAN.build(
        LEVELS, lambda: create_backbone("test_resnet"), partial(FPN, channels=8)
    ).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(other(image)["depth"][0], model(image)["depth"][0])
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(image)["depth"][0], model(image)["depth"][0])
    keys = {
        key.removeprefix("backbone.") for key in model.state_dict() if key.startswith("backbone.")
    }
    assert keys == set(create_backbone("test_resnet").state_dict())


def test_copy_is_independent() -> None:
    model = build("resnet18").eval()
    twin = deepcopy(model)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model.masks(image)["depth"]
        for p in twin.backbone.parameters():
            p.mul_(0.9)
        changed = twin.masks(image)["depth"]
        assert not any(torch.equal(a, b) for a, b in zip(changed, before, strict=True))
        assert all(
            torch.equal(a, b) for a, b in zip(model.masks(image)["depth"], before, strict=True)
        )


def test_backbone_with_one_body_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^sharing mtan works between the stages of a backbone, and 'test_vit' has",
    ):
        build("test_vit")
