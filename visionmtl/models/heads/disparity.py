"""Disparity head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from visionmtl._options import Count
from visionmtl.models.heads.base import HEADS, DenseHead, start_sigmoid_at
from visionmtl.types import Pyramid


@HEADS.register("disparity")
class DisparityHead(DenseHead):
    """Disparity (B, 1, H, W), larger is nearer, within 0 and ``max_disparity``: a scaled sigmoid.

    It starts at 20 % of ``max_disparity``: most of what a camera sees is far away.
    """

    kinds: ClassVar[tuple[str, ...]] = ("disparity",)

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        max_disparity: float,
        *,
        channels: Count = 64,
    ) -> None:
        super().__init__(in_channels, strides, 1, channels=channels)
        self.max_disparity = max_disparity
        start_sigmoid_at(0.2, self.predict)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.max_disparity * torch.sigmoid(self.logits(pyramid, size))
