"""Bidirectional feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl._options import Count, Width
from visionmtl.models.decoders.base import DECODERS, Decoder
from visionmtl.models.layers import SeparableConv, resize_to
from visionmtl.types import Pyramid


class FusionNode(nn.Module):
    """Fast normalised fusion of maps of one size, then a separable convolution.

    EfficientDet, section 3.3.
    """

    def __init__(self, num_inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.conv = SeparableConv(channels)

    def forward(self, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        weights = weights / (weights.sum() + 1e-4)
        fused = torch.stack([w * m for w, m in zip(weights, maps, strict=True)]).sum(0)
        out: Tensor = self.conv(F.silu(fused))
        return out


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up pass over p2..p5 (EfficientDet, figure 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(FusionNode(2, channels) for _ in range(3))
        self.up = nn.ModuleList(FusionNode(n, channels) for n in (3, 3, 2))
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        p2, p3, p4, p5 = pyramid
        m4 = self.down[0](p4, resize_to(p5, p4))
        m3 = self.down[1](p3, resize_to(m4, p3))
        o2 = self.down[2](p2, resize_to(m3, p2))
        o3 = self.up[0](p3, m3, self.pool(o2))
        o4 = self.up[1](p4, m4, self.pool(o3))
        o5 = self.up[2](p5, self.pool(o4))
        return [o2, o3, o4, o5]


@DECODERS.register("bifpn")
class BiFPN(Decoder):
    """Weighted bidirectional pyramid, here from stride 4 to 32.

    Tan et al. 2020, EfficientDet, section 3. At 96 channels it has about a third of FPN's
    multiplications behind a light backbone and half of them behind ResNet-50, and its bottom-up
    pass brings the fine maps to p5. Every parameter reaches p5, so any head that reads p5 (all of
    ours do) depends on the whole decoder.

    Args:
        in_channels: channels of c2..c5.
        channels: width of p2..p5.
        num_layers: how often the two passes repeat.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: Width = 96, num_layers: Count = 2
    ) -> None:
        super().__init__(channels)
        self.lateral = nn.ModuleList()
        for c in in_channels:
            conv = nn.Conv2d(c, channels, 1, bias=False)
            self.lateral.append(nn.Sequential(conv, nn.BatchNorm2d(channels)))
        self.layers = nn.Sequential(*(BiFPNLayer(channels) for _ in range(num_layers)))

    def forward(self, pyramid: Pyramid) -> Pyramid:
        narrowed = [lateral(c) for lateral, c in zip(self.lateral, pyramid, strict=True)]
        out: Pyramid = self.layers(narrowed)
        return out
