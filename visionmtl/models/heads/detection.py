"""Anchor-free detection head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, Head
from visionmtl.types import DetectionOutput, Pyramid

NEEDED = (4, 8, 16, 32)
"""Strides of p2..p5; the ranges of box sizes that a level answers for are made for them."""
STRIDES = (8, 16, 32, 64)
"""Of p3, p4, p5 and p6, the levels that the head answers on."""


@HEADS.register("fcos")
class DetectionHead(Head):
    """FCOS on p3..p5 and a p6 of its own.

    Tian et al. 2019, https://arxiv.org/abs/1904.01355, section 3, with improvements of the 2020
    version. Two towers of ``num_convs`` convolutions, shared over the levels, give class logits
    and, on the second, box distances and centerness. Distances are positive: softplus of the scaled
    map times the level's stride.

    Args:
        in_channels: width of the pyramid.
        strides: strides of the pyramid, must be 4, 8, 16, 32.
        num_classes: one sigmoid each.
        channels: width of the towers.
        num_convs: depth of the towers.

    Raises:
        ValueError: other strides.
    """

    levels = (1, 2, 3)
    kinds: ClassVar[tuple[str, ...]] = ("detection",)

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        num_classes: int,
        *,
        channels: Count = 64,
        num_convs: Count = 2,
    ) -> None:
        super().__init__()
        if tuple(strides) != NEEDED:
            needs = f"needs a pyramid with strides {list(NEEDED)}"
            raise ValueError(f"{type(self).__name__} {needs}, the decoder gives {list(strides)}")
        self.p6 = nn.Conv2d(in_channels, in_channels, kernel_size=3, stride=2, padding=1)
        self.class_tower = _tower(in_channels, channels, num_convs)
        self.box_tower = _tower(in_channels, channels, num_convs)
        self.class_logits = _conv(channels, num_classes)
        self.distances = _conv(channels, 4)
        self.centerness = _conv(channels, 1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        _start(self.class_logits, math.log(0.01 / 0.99))  # RetinaNet's prior, section 4.1
        _start(self.distances, 2.0)  # boxes start about four strides wide
        _start(self.centerness, 0.0)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> DetectionOutput:
        _, p3, p4, p5 = pyramid
        maps = [p3, p4, p5, self.p6(p5)]
        class_logits = []
        distances = []
        centerness = []
        for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            boxes = self.box_tower(x)
            class_logits.append(_flat(self.class_logits(self.class_tower(x))))
            sides = _flat(self.distances(boxes)) * self.scales[i]
            distances.append(F.softplus(sides) * stride)
            centerness.append(_flat(self.centerness(boxes)).squeeze(-1))
        points, strides = image_points(size, p3.device)
        cells = sum(x.shape[-2] * x.shape[-1] for x in maps)
        assert len(points) == cells, f"maps of another image than {size}"
        return DetectionOutput(
            class_logits=torch.cat(class_logits, 1),
            distances=torch.cat(distances, 1),
            centerness=torch.cat(centerness, 1),
            points=points,
            strides=strides,
            size=size,
        )


def _tower(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = in_channels
    for _ in range(num_convs):
        layers.append(nn.Conv2d(width, channels, kernel_size=3, padding=1, bias=False))
        layers.append(nn.GroupNorm(math.gcd(8, channels // 2), channels))
        layers.append(nn.ReLU(inplace=True))
        width = channels
    return nn.Sequential(*layers)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def _start(conv: nn.Conv2d, bias: float) -> None:
    """Start a last convolution near a constant output."""
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)


def _flat(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), float32."""
    return x.flatten(2).transpose(1, 2).float()


def image_points(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The points that answer for an image: the cells of p3..p6, each level in row order, float32.

    Args:
        size: (H, W) of the image, before it is padded to a multiple of p5's stride.
        device: of the results.

    Returns:
        Centres (A, 2), x y in image pixels, and strides (A,).
    """
    height, width = (side + -side % NEEDED[-1] for side in size)
    points = []
    strides = []
    for stride in STRIDES:
        centres = _grid(math.ceil(height / stride), math.ceil(width / stride), stride, device)
        points.append(centres)
        # Filled on the device: a tensor from a list would be copied there, and the host would wait
        # for it every step.
        strides.append(torch.full_like(centres[:, 0], stride))
    return torch.cat(points), torch.cat(strides)


def _grid(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Centres (height * width, 2), x y in image pixels, of the cells of a map."""
    ys = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
    xs = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([xs.repeat(height), ys.repeat_interleave(width)], dim=1)
