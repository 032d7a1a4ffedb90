"""Depth head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, DenseHead, start_sigmoid_at
from visionmtl.types import Pyramid

MIN_DEPTH = 1e-3
"""Metres; the smallest depth that the head gives."""


@HEADS.register("depth")
class DepthHead(DenseHead):
    """Depth (B, 1, H, W) in metres, within ``MIN_DEPTH`` and ``max_depth``: a scaled sigmoid.

    It starts at 30 % of ``max_depth``, which is nearer to the mean depth of a room than one half.
    """

    kinds: ClassVar[tuple[str, ...]] = ("depth",)

    def __init__(
        self, in_channels: int, strides: Sequence[int], max_depth: float, *, channels: Count = 64
    ) -> None:
        super().__init__(in_channels, strides, 1, channels=channels)
        self.max_depth = max_depth
        start_sigmoid_at(0.3, self.predict)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return MIN_DEPTH + (self.max_depth - MIN_DEPTH) * torch.sigmoid(self.logits(pyramid, size))
