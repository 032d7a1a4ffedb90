"""Simple feature pyramid for plain vision transformers."""

from __future__ import annotations

from torch import Tensor, nn

from visionmtl.models.layers import LayerNorm2d
from visionmtl.types import Pyramid

PATCH = 16
"""Stride of the one map from which the pyramid is made."""


class SimpleFeaturePyramid(nn.Module):
    """One map (B, C, H / 16, W / 16) -> c2..c5, all with C channels.

    c2 takes two transposed convolutions, c3 one, c4 none, and c5 a pooling (Li et al. 2022, ViTDet,
    section 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(_up(channels), LayerNorm2d(channels), nn.GELU(), _up(channels)),
                _up(channels),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2),
            ]
        )

    def forward(self, x: Tensor) -> Pyramid:
        return [branch(x) for branch in self.branches]


def _up(channels: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
