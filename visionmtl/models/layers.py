"""Small layers that decoders and heads share."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

__all__ = ["ConvBNReLU", "LayerNorm2d", "SeparableConv", "resize_to"]


class ConvBNReLU(nn.Sequential):
    """k x k convolution without bias, batch norm, ReLU; keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class SeparableConv(nn.Sequential):
    """Depthwise 3 x 3, pointwise 1 x 1, batch norm; keeps size and channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )


def resize_to(x: Tensor, like: Tensor, mode: str = "nearest") -> Tensor:
    """``x`` (B, C, h, w) at the height and width of ``like``."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    if mode == "nearest":
        return F.interpolate(x, size=like.shape[-2:], mode=mode)
    return F.interpolate(x, size=like.shape[-2:], mode=mode, align_corners=False)
