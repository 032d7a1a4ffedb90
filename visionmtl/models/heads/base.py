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
        kinds: names of the kinds of task that it is for, beside those whose default it is.
    """

    levels: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:  # nn.Module would take any options
        super().__init__()

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Prediction:
        raise NotImplementedError


HEADS: Registry[Head] = Registry("head")
"""Name in a config -> class.

``in_channels`` and ``strides`` come from the decoder, ``num_classes``, ``max_depth`` and the like
from the task.
"""


def start_sigmoid_at(share: float, conv: nn.Conv2d) -> None:
    """Set the bias of the last convolution so that its sigmoid starts at ``share``, in (0, 1)."""
    assert conv.bias is not None
    nn.init.constant_(conv.bias, math.log(share / (1 - share)))


class DenseHead(Head):
    """Semantic FPN: p2..p5 are summed at the finest stride, then classified.

    Kirillov et al. 2019, Panoptic FPN, section 3.1. Each level passes one 3 x 3 convolution and is
    upsampled step by step; a last 3 x 3 convolution mixes the sum.

    Args:
        in_channels: width of the pyramid.
        strides: strides of the pyramid: four, finest first.
        out_channels: channels of the output map.
        channels: width of the head.

    Raises:
        ValueError: other strides.
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], out_channels: int, *, channels: int = 64
    ) -> None:
        super().__init__()
        if len(strides) != len(self.levels) or list(strides) != sorted(strides):
            needs = "four strides, finest first, such as [4, 8, 16, 32]"
            given = f"the decoder gives {list(strides)}"
            raise ValueError(f"{type(self).__name__} needs a pyramid with {needs}; {given}")
        self.stride = strides[0]
        self.reduce = nn.ModuleList(ConvBNReLU(in_channels, channels) for _ in self.levels)
        self.mix = ConvBNReLU(channels, channels)
        self.predict = nn.Conv2d(channels, out_channels, kernel_size=1)

    def logits(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        """Map (B, out_channels, H, W) in float32: upsampled by the finest stride, cut to H x W."""
        p2, p3, p4, p5 = (reduce(p) for reduce, p in zip(self.reduce, pyramid, strict=True))
        x = p4 + resize_to(p5, p4, "bilinear")
        x = p3 + resize_to(x, p3, "bilinear")
        x = p2 + resize_to(x, p2, "bilinear")
        x = self.predict(self.mix(x)).float()
        x = F.interpolate(x, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return x[..., : size[0], : size[1]]
