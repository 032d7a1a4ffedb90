"""What every backbone offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from visionmtl.types import Pyramid

STRIDES = (4, 8, 16, 32)
"""Of c2, c3, c4 and c5."""


class Backbone(nn.Module):
    """Image (B, 3, H, W) -> ``Pyramid`` c2..c5, always NCHW.

    Attributes:
        name: timm's model name.
        channels: channels of c2..c5.
        strides: strides of c2..c5.
        stages: four modules NCHW -> NCHW whose composition is the backbone (the stem is in the
            first), or None where the backbone cannot be cut between stages.
        mean: pixel means of the pretrained weights, for RGB in 0..1.
        std: their standard deviations.
        unread: names of the parameters that do not act on c2, c3, c4 and c5.
    """

    stages: nn.ModuleList | None

    def __init__(self, name: str, channels: Sequence[int], pretrained_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.channels = list(channels)
        self.strides = list(STRIDES)
        self.mean = tuple(pretrained_cfg.get("mean") or (0.5, 0.5, 0.5))
        self.std = tuple(pretrained_cfg.get("std") or (0.5, 0.5, 0.5))
        self.unread: list[frozenset[str]] = [frozenset()] * len(STRIDES)

    def forward(self, x: Tensor) -> Pyramid:
        raise NotImplementedError

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        """The parameters on which the maps ``levels`` (0 is c2) depend."""
        unread = frozenset.intersection(*(self.unread[level] for level in levels))
        return [p for name, p in self.named_parameters() if name not in unread]


def strided_taps(name: str, reductions: Sequence[int]) -> list[int]:
    """Position of the last map at each of the strides 4, 8, 16, 32.

    Raises:
        ValueError: a stride is missing.
    """
    taps = []
    for stride in STRIDES:
        if stride not in reductions:
            gives = f"backbone {name!r} gives strides {list(reductions)}"
            raise ValueError(f"{gives}; strides {list(STRIDES)} are needed")
        last = max(i for i, reduction in enumerate(reductions) if reduction == stride)
        taps.append(last)
    return taps
