"""What every head offers, and the trunk that the dense heads share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl._registry import Registry
from visionmtl.models.layers import ConvBNReLU, resize_to
from visionmtl.types import Prediction, Pyramid


class Head(nn.Module):
    """``(Pyramid p2..p5, (H, W))`` -> prediction at H x W.

    Attributes:
        levels: which of p2..p5 (0 is p2) the head reads.
        kinds: names of the kinds of task that it is for.
    """

    levels: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    kinds: ClassVar[tuple[str, ...]] = ()

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Prediction:
        raise NotImplementedError


HEADS: Registry[Head] = Registry("head")
"""Name in a config -> class. ``in_channels`` and ``strides`` come from the decoder, ``num_classes``,
``max_depth`` and the like from the task.
"""


def check_strides(head: str, strides: Sequence[int], needed: Sequence[int]) -> None:
    """Raise ``ValueError`` unless the decoder gives the strides that a head needs."""
    if list(strides) != list(needed):
        raise ValueError(
            f"{head} needs a pyramid with strides {list(needed)}, the decoder gives {list(strides)}"
        )


def start_sigmoid_at(share: float, conv: nn.Conv2d) -> None:
    """Set the bias of the last convolution so that its sigmoid starts at ``share``, in (0, 1)."""
    assert conv.bias is not None
    nn.init.constant_(conv.bias, math.log(share / (1 - share)))


class DenseHead(Head):
    """Semantic FPN (Kirillov et al. 2019, Panoptic FPN, section 3.1): p2..p5 are summed at stride
    4, then classified.

    Each level passes one 3 x 3 convolution and is upsampled step by step; a last 3 x 3 convolution
    mixes the sum.

    Args:
        in_channels: width of the pyramid.
        strides: strides of the pyramid, must be 4, 8, 16, 32.
        out_channels: channels of the output map.
        channels: width of the head.
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], out_channels: int, *, channels: int = 64
    ) -> None:
        super().__init__()
        check_strides(type(self).__name__, strides, [4, 8, 16, 32])
        self.reduce = nn.ModuleList(ConvBNReLU(in_channels, channels) for _ in self.levels)
        self.mix = ConvBNReLU(channels, channels)
        self.predict = nn.Conv2d(channels, out_channels, kernel_size=1)

    def logits(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        """Map (B, out_channels, H, W) in float32: stride 4 upsampled four times, cut to H x W."""
        p2, p3, p4, p5 = (reduce(p) for reduce, p in zip(self.reduce, pyramid, strict=True))
        x = p4 + resize_to(p5, p4, "bilinear")
        x = p3 + resize_to(x, p3, "bilinear")
        x = p2 + resize_to(x, p2, "bilinear")
        x = self.predict(self.mix(x)).float()
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        return x[..., : size[0], : size[1]]
