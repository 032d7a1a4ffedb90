"""Anchor-free detection head and the decoding of its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, Head, check_strides
from visionmtl.types import DetectionOutput, Detections, Pyramid

STRIDES = (8, 16, 32, 64)
"""Of p3, p4, p5 and p6, the levels that the head answers on."""


@HEADS.register("fcos")
class DetectionHead(Head):
    """FCOS (Tian et al. 2019, section 3; improvements of the 2020 version) on p3..p5 and a p6 of
    its own.

    Two towers of ``num_convs`` convolutions, shared over the levels, give class logits and, on the
    second, box distances and centerness. Distances are positive: softplus of the scaled map times
    the level's stride.

    Args:
        in_channels: width of the pyramid.
        strides: strides of the pyramid, must be 4, 8, 16, 32.
        num_classes: one sigmoid each.
        channels: width of the towers.
        num_convs: depth of the towers.
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
        check_strides(type(self).__name__, strides, [4, 8, 16, 32])
        self.p6 = nn.Conv2d(in_channels, in_channels, kernel_size=3, stride=2, padding=1)
        self.class_tower = _tower(in_channels, channels, num_convs)
        self.box_tower = _tower(in_channels, channels, num_convs)
        self.class_logits = nn.Conv2d(channels, num_classes, kernel_size=3, padding=1)
        self.distances = nn.Conv2d(channels, 4, kernel_size=3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        for conv in (self.class_logits, self.distances, self.centerness):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        assert self.class_logits.bias is not None
        nn.init.constant_(
            self.class_logits.bias, math.log(0.01 / 0.99)
        )  # RetinaNet's prior, section 4.1
        assert self.distances.bias is not None
        nn.init.constant_(self.distances.bias, 2.0)  # boxes start about four strides wide

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> DetectionOutput:
        _, p3, p4, p5 = pyramid
        maps = [p3, p4, p5, self.p6(p5)]
        logits, distances, centerness = [], [], []
        for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            boxes = self.box_tower(x)
            logits.append(_flat(self.class_logits(self.class_tower(x))))
            distances.append(F.softplus(_flat(self.distances(boxes)) * self.scales[i]) * stride)
            centerness.append(_flat(self.centerness(boxes)).squeeze(-1))
        points, strides = image_points(size, p3.device)
        assert len(points) == sum(x.shape[-2] * x.shape[-1] for x in maps), (
            f"maps of another image than {size}"
        )
        return DetectionOutput(
            class_logits=torch.cat(logits, 1),
            distances=torch.cat(distances, 1),
            centerness=torch.cat(centerness, 1),
            points=points,
            strides=strides,
            size=size,
        )


def _tower(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers.append(
            nn.Conv2d(
                in_channels if i == 0 else channels, channels, kernel_size=3, padding=1, bias=False
            )
        )
        layers += [nn.GroupNorm(math.gcd(8, channels // 2), channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _flat(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), float32."""
    return x.flatten(2).transpose(1, 2).float()


def image_points(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The points that answer for an image: the cells of p3..p6, each level in row order, all
    float32.

    Args:
        size: (H, W) of the image, before it is padded to a multiple of p5's stride.
        device: of the results.

    Returns:
        Centres (A, 2), x y in image pixels, and strides (A,).
    """
    height, width = (side + -side % STRIDES[2] for side in size)
    points = [
        _grid(math.ceil(height / stride), math.ceil(width / stride), stride, device)
        for stride in STRIDES
    ]
    # Filled on the device: a tensor from a list would be copied there, and the host would wait for
    # it every step.
    strides = [torch.full_like(p[:, 0], stride) for p, stride in zip(points, STRIDES, strict=True)]
    return torch.cat(points), torch.cat(strides)


def _grid(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Centres (height * width, 2), x y in image pixels, of the cells of a map."""
    ys = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
    xs = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([xs.repeat(height), ys.repeat_interleave(width)], dim=1)


def decode(
    output: DetectionOutput,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.6,
    max_detections: int = 100,
) -> list[Detections]:
    """Boxes of each image: score threshold, per-class non-maximum suppression, the best
    ``max_detections``.

    The score is the geometric mean of class probability and centerness (FCOS 2020, section 3.3).
    Boxes are clipped to the image; non-finite and empty ones are dropped.
    """
    height, width = output.size
    scores_all = (output.class_logits.sigmoid() * output.centerness.sigmoid().unsqueeze(-1)).sqrt()
    left_top, right_bottom = output.distances.chunk(2, dim=-1)
    boxes_all = torch.cat([output.points - left_top, output.points + right_bottom], dim=-1)
    boxes_all[..., 0::2] = boxes_all[..., 0::2].clamp(0, width)
    boxes_all[..., 1::2] = boxes_all[..., 1::2].clamp(0, height)
    detections = []
    for scores, boxes in zip(scores_all, boxes_all, strict=True):
        sides = boxes[:, 2:] - boxes[:, :2]
        sound = (sides > 0).all(-1, keepdim=True) & boxes.isfinite().all(-1, keepdim=True)
        point, label = ((scores > score_threshold) & sound).nonzero(as_tuple=True)
        score = scores[point, label]
        order = score.topk(min(1000, len(score))).indices
        point, label, score = point[order], label[order], score[order]
        keep = batched_nms(boxes[point], score, label, iou_threshold)[:max_detections]
        detections.append(Detections(boxes[point[keep]], score[keep], label[keep]))
    return detections
