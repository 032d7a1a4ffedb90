"""Feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from visionmtl._options import Width
from visionmtl.models.decoders.base import DECODERS, Decoder
from visionmtl.models.layers import resize_to
from visionmtl.types import Pyramid


@DECODERS.register("fpn")
class FPN(Decoder):
    """Top-down pathway with lateral connections (Lin et al. 2017, section 3, figure 3).

    Args:
        in_channels: channels of c2..c5.
        channels: width of p2..p5.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: Width = 96) -> None:
        super().__init__(channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, kernel_size=1) for c in in_channels)
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in in_channels
        )

    def forward(self, pyramid: Pyramid) -> Pyramid:
        c2, c3, c4, c5 = (lateral(c) for lateral, c in zip(self.lateral, pyramid, strict=True))
        m4 = c4 + resize_to(c5, c4)
        m3 = c3 + resize_to(m4, c3)
        m2 = c2 + resize_to(m3, c2)
        return [output(m) for output, m in zip(self.output, [m2, m3, m4, c5], strict=True)]

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        reaching = list(self.lateral[min(levels) :].parameters())
        for level in levels:
            reaching += self.output[level].parameters()
        return reaching

    def inputs_reaching(self, levels: Sequence[int]) -> list[int]:
        return list(range(min(levels), 4))
