"""Surface normal head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, DenseHead
from visionmtl.types import Pyramid


@HEADS.register("normals")
class NormalsHead(DenseHead):
    """Unit vectors (B, 3, H, W) in the camera frame (x right, y down, z forward)."""

    kinds: ClassVar[tuple[str, ...]] = ("normals",)

    def __init__(self, in_channels: int, strides: Sequence[int], *, channels: Count = 64) -> None:
        super().__init__(in_channels, strides, 3, channels=channels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return F.normalize(self.logits(pyramid, size), dim=1, eps=1e-6)
