"""Semantic segmentation head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, DenseHead
from visionmtl.types import Pyramid


@HEADS.register("semseg")
class SemSegHead(DenseHead):
    """Class logits (B, K, H, W)."""

    kinds: ClassVar[tuple[str, ...]] = ("semseg",)

    def __init__(
        self, in_channels: int, strides: Sequence[int], num_classes: int, *, channels: Count = 64
    ) -> None:
        super().__init__(in_channels, strides, num_classes, channels=channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.logits(pyramid, size)
