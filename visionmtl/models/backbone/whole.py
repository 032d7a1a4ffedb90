"""Backbones with one body."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.models.backbone.base import STRIDES, Backbone, strided_taps
from visionmtl.models.backbone.simple_pyramid import PATCH, SimpleFeaturePyramid
from visionmtl.types import Pyramid


class WholeBackbone(Backbone):
    """A backbone that cannot be cut: a hierarchy of maps as they are, or a plain ViT.

    A plain ViT, whose maps all have one stride, gets a simple feature pyramid behind its last map.
    If its patch is not 16 pixels (DINOv2 has 14), it sees the image resized by patch / 16, so that
    its map still lies on the stride-16 grid.
    """

    def __init__(self, name: str, net: nn.Module, pretrained_cfg: dict[str, Any]) -> None:
        info: Any = net.feature_info
        reductions = info.reduction()
        channels = info.channels()
        plain = len(set(reductions)) == 1
        if plain:
            taps = [len(reductions) - 1]
            super().__init__(name, [channels[-1]] * len(STRIDES), pretrained_cfg)
        else:
            taps = strided_taps(name, reductions)
            super().__init__(name, [channels[tap] for tap in taps], pretrained_cfg)
        self.stages = None
        self.net = net
        self.taps = taps
        self.patch_scale = 1.0
        self.pyramid = None
        if plain:
            self.patch_scale = reductions[0] / PATCH
            self.pyramid = SimpleFeaturePyramid(channels[-1])

    def forward(self, x: Tensor) -> Pyramid:
        if self.patch_scale != 1.0:
            size = [round(side * self.patch_scale) for side in x.shape[-2:]]
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        maps = self.net(x)
        if self.pyramid is not None:
            pyramid: Pyramid = self.pyramid(maps[self.taps[0]])
            return pyramid
        return [maps[tap] for tap in self.taps]
