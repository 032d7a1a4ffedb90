"""Surface normal head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from visionmtl.models.heads.base import DenseHead
from visionmtl.types import Pyramid, TaskSpec


class NormalsHead(DenseHead):
    """Unit vectors (B, 3, H, W) in the camera frame (x right, y down, z forward)."""

    @classmethod
    def build(
        cls, spec: TaskSpec, in_channels: int, strides: Sequence[int], channels: int = 64
    ) -> Self:
        return cls(in_channels, strides, 3, channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return F.normalize(self.logits(pyramid, size), dim=1, eps=1e-6)
