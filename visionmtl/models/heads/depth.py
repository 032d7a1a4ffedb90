"""Depth head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from visionmtl.models.heads.base import DenseHead, start_sigmoid_at
from visionmtl.types import Pyramid, TaskSpec

MIN_DEPTH = 1e-3
"""Metres; the smallest depth that the head gives."""


class DepthHead(DenseHead):
    """Depth (B, 1, H, W) in metres, within ``MIN_DEPTH`` and ``max_depth``: a scaled sigmoid.

    It starts at 30 % of ``max_depth``, which is nearer to the mean depth of a room than one half.
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], max_depth: float, channels: int = 64
    ) -> None:
        super().__init__(in_channels, strides, 1, channels)
        self.max_depth = max_depth
        start_sigmoid_at(0.3, self.predict)

    @classmethod
    def build(
        cls, spec: TaskSpec, in_channels: int, strides: Sequence[int], channels: int = 64
    ) -> Self:
        return cls(in_channels, strides, spec.max_depth, channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return MIN_DEPTH + (self.max_depth - MIN_DEPTH) * torch.sigmoid(self.logits(pyramid, size))
