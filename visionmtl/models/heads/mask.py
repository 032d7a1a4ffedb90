"""Head of saliency and edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor

from visionmtl.models.heads.base import DenseHead
from visionmtl.types import Pyramid, TaskSpec


class MaskHead(DenseHead):
    """Logits (B, 1, H, W) of a yes per pixel."""

    @classmethod
    def build(
        cls, spec: TaskSpec, in_channels: int, strides: Sequence[int], channels: int = 64
    ) -> Self:
        return cls(in_channels, strides, 1, channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.logits(pyramid, size)
