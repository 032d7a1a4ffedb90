from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.format import Format
from torch import Tensor, nn

from visionmtl.models.backbone import StagedBackbone, WholeBackbone, create_backbone
from visionmtl.models.factory import create_model
from visionmtl.tasks import TaskSpec
from visionmtl.types import DetectionOutput

STAGED = [
    "test_byobnet",
    "test_convnext",
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_evos",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
]
PLAIN = ["test_vit", "test_vit2", "test_vit3", "test_vit4"]
# Families that timm serves through a class of their own, or with NHWC maps.
LISTED = [
    "tf_efficientnet_lite0",
    "tinynet_e",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "lcnet_035",
]
REAL = [
    "resnet18",
    "convnextv2_atto",
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small",
    "swin_tiny_patch4_window7_224",
    "fastvit_t8",
    "pvt_v2_b0",
    "regnety_002",
    "vit_tiny_patch16_224",
    "vit_small_patch16_dinov3",
    "vit_small_patch14_dinov2",
]


def randomise(module: nn.Module) -> nn.Module:
    """Give every parameter and running statistic a value of its own, so that no two networks agree
    by chance.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                noise = 0.1 * torch.randn(value.shape, generator=generator)
                value.copy_(1 + noise.abs() if name.endswith("running_var") else value + noise)
    return module.eval()


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy weights between two networks that name the same tensors, in the same order,
    differently.
    """
    pairs = list(zip(target.state_dict().values(), source.state_dict().values(), strict=True))
    assert [a.shape for a, _ in pairs] == [b.shape for _, b in pairs]
    for a, b in pairs:
        a.copy_(b)


def last_at(stride: int, reductions: list[int]) -> int:
    return max(i for i, r in enumerate(reductions) if r == stride)


@pytest.mark.parametrize("size", [(32, 32), (96, 160)])
@pytest.mark.parametrize("name", STAGED + PLAIN)
def test_maps_have_the_published_channels_and_strides(name: str, size: tuple[int, int]) -> None:
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        pyramid = backbone(torch.randn(2, 3, *size))
    assert backbone.strides == [4, 8, 16, 32]
    shapes = [
        (2, c, size[0] // s, size[1] // s)
        for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(x.shape) for x in pyramid] == shapes


@pytest.mark.parametrize("name", [*STAGED, *LISTED, "swin_tiny_patch4_window7_224"])
def test_cut_network_equals_timm(name: str) -> None:
    options = {"strict_img_size": False} if "swin" in name else {}
    reference: Any = randomise(timm.create_model(name, features_only=True, **options))
    backbone = create_backbone(name).eval()
    copy_in_order(reference, backbone)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = backbone(x), reference(x)
    reductions = reference.feature_info.reduction()
    for stride, c in zip(backbone.strides, found, strict=True):
        same = expected[last_at(stride, reductions)]
        same = (
            same.permute(0, 3, 1, 2)
            if getattr(reference, "output_fmt", None) == Format.NHWC
            else same
        )
        assert c.std() > 1e-3
        torch.testing.assert_close(c, same)


@pytest.mark.parametrize("name", [*STAGED, "mobilenetv4_conv_small"])
def test_stages_compose_to_the_forward(name: str) -> None:
    backbone = create_backbone(name).eval()
    assert isinstance(backbone, StagedBackbone)
    assert len(backbone.stages) == 4
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pyramid = backbone(x)
        for stage, c in zip(backbone.stages, pyramid, strict=True):
            x = stage(x)
            assert torch.equal(x, c)


def test_stages_of_a_channels_last_network_take_and_give_nchw() -> None:
    backbone = create_backbone("swin_tiny_patch4_window7_224").eval()
    assert backbone.stages is not None
    c3 = torch.randn(1, backbone.channels[1], 12, 20)
    with torch.no_grad():
        c4 = backbone.stages[2](c3)
    assert c4.shape == (1, backbone.channels[2], 6, 10)
    assert c4.is_contiguous()


HALVED = [
    "test_convnext",
    "test_mambaout",
    "resnet18",
    "pvt_v2_b0",
    "tf_efficientnet_lite0",
    "regnety_002",
    "dla34",
]


def staged(name: str) -> StagedBackbone:
    backbone = randomise(create_backbone(name))
    assert isinstance(backbone, StagedBackbone)
    return backbone


def test_halves_of_resnet_are_those_cut_by_hand() -> None:
    backbone = staged("resnet18")
    assert [half.path for half in backbone.tap_halves()] == ["4.0", "0.0", "0.0", "0.0"]
    x = image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = backbone.forward_halves(image)
        for stage, (half, output) in zip(backbone.stages, found, strict=True):
            *stem, (first, second) = stage  # type: ignore[misc]
            for module in stem:
                x = module(x)
            assert torch.equal(half, first(x))
            x = second(first(x))
            assert torch.equal(output, x)


def test_halves_of_a_channels_last_network_are_those_cut_by_hand() -> None:
    backbone = staged("swin_tiny_patch4_window7_224")
    assert [str(half) for half in backbone.tap_halves()] == [
        "block 1 of 2",
        "block 1 of 2",
        "block 3 of 6",
        "block 1 of 2",
    ]
    c3 = torch.randn(1, 192, 12, 20)
    stage: Any = backbone.stages[2]
    with torch.no_grad():
        half, output = stage.forward_halves(c3)
        x = stage[0].downsample(c3.permute(0, 2, 3, 1))
        for block in stage[0].blocks[:3]:
            x = block(x)
        assert torch.equal(half, x.permute(0, 3, 1, 2))
        for block in stage[0].blocks[3:]:
            x = block(x)
    assert torch.equal(output, x.permute(0, 3, 1, 2))
    assert half.is_contiguous()


def test_halves_of_tokens_are_maps() -> None:
    backbone = staged("pvt_v2_b0")
    backbone.tap_halves()
    stage: Any = backbone.stages[1]
    c2 = torch.randn(2, 32, 12, 20)
    with torch.no_grad():
        half, output = stage.forward_halves(c2)
        x, size = stage[0].downsample(c2.permute(0, 2, 3, 1) if stage.nhwc_in else c2), (6, 10)
        x = stage[0].blocks[0](x.flatten(1, 2) if x.ndim == 4 else x, size)
    assert half.shape == output.shape == (2, 64, 6, 10)
    assert torch.equal(half[1, :, 4, 7], x[1, 4 * 10 + 7])


@pytest.mark.parametrize("name", HALVED)
def test_tapping_changes_nothing_and_sees_final_values(name: str) -> None:
    backbone = staged(name).train()
    image = torch.randn(2, 3, 64, 96)
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    with torch.no_grad():
        expected = deepcopy(backbone).eval()(image)
    halves = backbone.tap_halves()
    assert backbone.training
    assert list(backbone.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    copies: dict[int, Tensor] = {}
    for i, (stage, half) in enumerate(zip(backbone.stages, halves, strict=True)):
        block = stage.get_submodule(half.path)
        block.register_forward_hook(
            lambda module, inputs, output, i=i: copies.update({i: output.clone()})
        )
    with torch.no_grad():
        found, plain = backbone.eval().forward_halves(image), backbone(image)
    for i, (half, c, (u, p)) in enumerate(zip(halves, expected, found, strict=True)):
        assert torch.equal(p, c)
        assert torch.equal(plain[i], c)
        assert u.shape == (2, half.channels, *c.shape[-2:])
        assert torch.equal(half.to_nchw(copies[i], p) if half.path else p, u), (
            "a later layer wrote into the map"
        )


def test_no_map_outlives_the_call() -> None:
    backbone = staged("test_convnext")
    backbone.tap_halves()
    with torch.no_grad():
        halves = [
            weakref.ref(half) for half, _ in backbone.forward_halves(torch.randn(1, 3, 32, 32))
        ]
        backbone(torch.randn(1, 3, 32, 32))
    assert all(half() is None for half in halves)
    assert all(stage.kept is None for stage in backbone.stages)
    with pytest.raises(RuntimeError):
        backbone.forward_halves(torch.randn(1, 4, 32, 32))
    assert all(stage.kept is None for stage in backbone.stages)


def test_only_the_asked_stages_run() -> None:
    backbone = staged("test_convnext")
    backbone.tap_halves()
    ran: list[int] = []
    for i, stage in enumerate(backbone.stages):
        stage.register_forward_hook(lambda *args, i=i: ran.append(i))
    assert len(backbone.forward_halves(torch.randn(1, 3, 32, 32), num_stages=2)) == 2
    assert ran == [0, 1]


def test_tapping_twice_adds_one_hook() -> None:
    backbone = staged("resnet18")
    assert backbone.tap_halves() is backbone.tap_halves()
    assert sum(len(module._forward_hooks) for module in backbone.modules()) == 4


def test_copy_of_a_tapped_backbone_looks_at_itself() -> None:
    backbone = staged("resnet18")
    backbone.tap_halves()
    twin = deepcopy(backbone)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = [half for half, _ in backbone.forward_halves(image)]
        assert all(
            torch.equal(half, u)
            for (half, _), u in zip(twin.forward_halves(image), before, strict=True)
        )
        for parameter in twin.parameters():
            parameter.mul_(0.5)
        for halved, u, stage in zip(twin.forward_halves(image), before, twin.stages, strict=True):
            assert not torch.equal(halved[0], u)
            block = stage.get_submodule(stage.middle.path)
            assert [hook.__self__ for hook in block._forward_hooks.values()] == [stage]  # type: ignore[attr-defined]
        assert all(
            torch.equal(half, u)
            for (half, _), u in zip(backbone.forward_halves(image), before, strict=True)
        )


@pytest.mark.parametrize("name", PLAIN)
def test_plain_vit_equals_timm_below_its_pyramid(name: str) -> None:
    backbone = create_backbone(name).eval()
    assert isinstance(backbone, WholeBackbone)
    assert backbone.stages is None
    reference: Any = timm.create_model(name, features_only=True, dynamic_img_size=True)
    reference.load_state_dict(backbone.net.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        c4 = backbone(x)[2]
        torch.testing.assert_close(c4, reference.eval()(x)[-1])


class Patch14(nn.Module):
    """What timm gives for a plain ViT: the same stride three times."""

    feature_info = SimpleNamespace(reduction=lambda: [14, 14, 14], channels=lambda: [6, 6, 6])

    def forward(self, x: Tensor) -> list[Tensor]:
        self.seen = tuple(x.shape[-2:])
        return [F.avg_pool2d(x, 14).repeat(1, 2, 1, 1)] * 3


def test_patch_14_lies_on_the_stride_16_grid() -> None:
    net = Patch14()
    backbone = WholeBackbone("patch14", net, {})
    pyramid = backbone(torch.zeros(1, 3, 96, 160))
    assert net.seen == (84, 140)
    assert [tuple(c.shape) for c in pyramid] == [
        (1, 6, 24, 40),
        (1, 6, 12, 20),
        (1, 6, 6, 10),
        (1, 6, 3, 5),
    ]


@pytest.mark.parametrize("levels", [[0, 1, 2, 3], [1, 2, 3], [0], [3]])
@pytest.mark.parametrize(
    "name", ["test_resnet", "test_convnext", "test_vit", "test_vit4", "hrnet_w18_small"]
)
def test_published_parameters_are_those_that_autograd_reaches(name: str, levels: list[int]) -> None:
    backbone = create_backbone(name).eval()
    pyramid = backbone(torch.randn(1, 3, 64, 64))
    loss = sum((pyramid[level].square().sum() for level in levels), torch.zeros(()))
    grads = torch.autograd.grad(loss, list(backbone.parameters()), allow_unused=True)
    reached = {id(p) for p, g in zip(backbone.parameters(), grads, strict=True) if g is not None}
    assert {id(p) for p in backbone.parameters_reaching(levels)} == reached


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_can_be_built_without_gradients(mode: Callable[[], AbstractContextManager[None]]) -> None:
    with mode():
        backbone = create_backbone("test_resnet")
        assert len(backbone.parameters_reaching([3])) == len(list(backbone.parameters()))


def test_parameters_that_are_added_later_are_counted() -> None:
    backbone = create_backbone("test_vit")
    backbone.extra = nn.Linear(2, 2)
    copied = deepcopy(backbone)
    ids = {id(p) for p in copied.parameters_reaching([1, 2, 3])}
    assert isinstance(copied.extra, nn.Linear)
    assert id(copied.extra.weight) in ids


def test_pixel_statistics_are_those_of_the_weights() -> None:
    lite = create_backbone("tf_efficientnet_lite0")
    assert (lite.mean, lite.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    resnet = create_backbone("resnet18")
    assert resnet.mean == pytest.approx((0.485, 0.456, 0.406))
    assert resnet.std == pytest.approx((0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_building_leaves_training_mode_and_statistics_alone(name: str) -> None:
    backbone = create_backbone(name)
    assert backbone.training
    running = [v for k, v in backbone.state_dict().items() if k.endswith("running_mean")]
    assert all((v == 0).all() for v in running)
    assert all(p.grad is None and p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_net_at_all",
            r"backbone 'no_such_net_at_all' is not a timm model; see timm\.list_models\(\)$",
        ),
        ("resnet19", r"'resnet19' is not a timm model; .*; did you mean resnet18 or .*\?$"),
        (
            "resnet18.nope",
            r"'resnet18\.nope': RuntimeError: Invalid pretrained tag \(nope\) for resnet18\.$",
        ),
        (
            "test_vit_relpos",
            "'test_vit_relpos' does not take images of any size, "
            "a 64 x 96 one fails: AssertionError",
        ),
        (
            "test_coatnet",
            "'test_coatnet' does not take images of any size, a 64 x 96 one fails: RuntimeError",
        ),
        (
            "test_maxvit",
            "'test_maxvit' does not take images of any size, a 64 x 96 one fails: AssertionError",
        ),
        ("hiera_tiny_224", "'hiera_tiny_224' does not take images of any size"),
        (
            "levit_128s",
            r"'levit_128s' gives strides \[16, 32, 64\]; strides \[4, 8, 16, 32\] are needed",
        ),
        (
            "visformer_tiny",
            r"'visformer_tiny' gives strides \[8, 16, 32\]; strides \[4, 8, 16, 32\] are needed",
        ),
        (
            "legacy_xception",
            r"'legacy_xception' gives maps of \[\(15, 23\), .*, needed are \[\(16, 24\), ",
        ),
        ("tnt_s_patch16_224", "'tnt_s_patch16_224' does not take images of any size"),
        (
            "selecsls42",
            r"'selecsls42' gives maps of \['list', 'list', 'list', \(2, 3\)\] "
            r"on a 64 x 96 image, needed are ",
        ),
    ],
)
def test_unusable_backbones_are_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        create_backbone(name)
    assert "\n" not in str(caught.value)


def test_network_without_feature_maps_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("features_only not implemented\nfor this model")

    monkeypatch.setattr(timm, "create_model", fail)
    what = r"^backbone 'test_vit': timm cannot build it as a feature extractor"
    message = what + r" \(pretrained: False\): RuntimeError: "
    with pytest.raises(ValueError, match=message) as caught:
        create_backbone("test_vit")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_four_task_model_on_a_real_backbone(name: str, specs: list[TaskSpec]) -> None:
    torch.manual_seed(0)
    model = create_model(
        name,
        specs,
        decoder_options={"channels": 32},
        heads={spec.name: {"channels": 16} for spec in specs},
    )
    images = torch.randint(0, 256, (2, 3, 60, 90), dtype=torch.uint8)
    predictions = model(images)
    loss = torch.zeros(())
    for spec, channels in zip(specs[:3], (3, 1, 3), strict=True):
        prediction = predictions[spec.name]
        assert isinstance(prediction, Tensor)
        assert prediction.shape == (2, channels, 60, 90)
        loss = loss + prediction.square().mean()
    boxes = predictions["detection"]
    assert isinstance(boxes, DetectionOutput)
    assert boxes.class_logits.shape == (2, 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2, 2)
    (loss + boxes.distances.mean() + boxes.class_logits.mean()).backward()
    first = next(p for p in model.sharing.backbones[0].parameters() if p.ndim == 4)
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
