"""Disparity head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from visionmtl.models.heads.base import DenseHead, start_sigmoid_at
from visionmtl.types import Pyramid, TaskSpec


class DisparityHead(DenseHead):
    """Disparity (B, 1, H, W), larger is nearer, within 0 and ``max_disparity``: a scaled sigmoid.

    It starts at 20 % of ``max_disparity``: most of what a camera sees is far away.
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], max_disparity: float, channels: int = 64
    ) -> None:
        super().__init__(in_channels, strides, 1, channels)
        self.max_disparity = max_disparity
        start_sigmoid_at(0.2, self.predict)

    @classmethod
    def build(
        cls, spec: TaskSpec, in_channels: int, strides: Sequence[int], channels: int = 64
    ) -> Self:
        return cls(in_channels, strides, spec.max_disparity, channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.max_disparity * torch.sigmoid(self.logits(pyramid, size))
