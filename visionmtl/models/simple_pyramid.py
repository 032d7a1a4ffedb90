"""Simple feature pyramid for plain vision transformers (Li et al. 2022, ViTDet, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from visionmtl.models.layers import LayerNorm2d
from visionmtl.types import Pyramid


class SimpleFeaturePyramid(nn.Module):
    """One map (B, C, H / 16, W / 16) -> c2..c5, all with C channels.

    c2 takes two transposed convolutions, c3 one, c4 none, and c5 a pooling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

        def up() -> nn.Module:
            return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)

        self.branches = nn.ModuleList(
            [
                nn.Sequential(up(), LayerNorm2d(channels), nn.GELU(), up()),
                up(),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2),
            ]
        )

    def forward(self, x: Tensor) -> Pyramid:
        return [branch(x) for branch in self.branches]
