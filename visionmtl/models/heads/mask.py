"""Head of saliency and edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, DenseHead
from visionmtl.types import Pyramid


@HEADS.register("mask")
class MaskHead(DenseHead):
    """Logits (B, 1, H, W) of a yes per pixel."""

    kinds: ClassVar[tuple[str, ...]] = ("saliency", "edge")

    def __init__(self, in_channels: int, strides: Sequence[int], *, channels: Count = 64) -> None:
        super().__init__(in_channels, strides, 1, channels=channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.logits(pyramid, size)
