"""Cross-stitch networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from visionmtl._options import Fraction
from visionmtl.models.sharing.base import SHARING, Levels, MakeBackbone, MakeDecoder
from visionmtl.models.sharing.stitched import LrScale, StitchedTrunks, Unit


class CrossStitchUnit(Unit):
    """x_t = sum_j alpha[t, j] * x_j per channel (equation 1).

    Args:
        mixing: (T, T), the value of every channel at the start.
        channels: C of the features.

    Attributes:
        alpha: (T, T, C).
    """

    def __init__(self, mixing: Tensor, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(mixing[:, :, None].repeat(1, 1, channels))

    def forward(self, maps: Mapping[str, Tensor], tasks: Collection[str]) -> dict[str, Tensor]:
        features = list(maps.values())
        # In float32 the weights would lift bfloat16 features.
        weights = self.alpha.to(features[0].dtype)[..., None, None]
        fused = {}
        for task, row in zip(maps, weights, strict=True):
            if task in tasks:
                fused[task] = _weighted_sum(row, features)
        return fused

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        return [self.alpha]


def _weighted_sum(weights: Tensor, features: Sequence[Tensor]) -> Tensor:
    """(T, C, 1, 1) and T of (B, C, H, W).

    An einsum would copy all features into one tensor, and its result would lose the channels_last
    format.
    """
    total = weights[0] * features[0]
    for weight, x in zip(weights[1:], features[1:], strict=True):
        total = torch.addcmul(total, weight, x)
    return total


@SHARING.register("cross_stitch")
class CrossStitch(StitchedTrunks):
    """One trunk per task; after each stage learned, channel-wise sums of the features of all tasks.

    Misra et al. 2016, https://arxiv.org/abs/1604.03539, who train the units 100 to 1000 times as
    fast as the trunks. They are not decayed here: weights of 0 would cut a task from all features,
    its own too.
    """

    @classmethod
    def build(
        cls,
        levels: Levels,
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
        *,
        alpha: Fraction = 0.9,
        lr_scale: LrScale = 10.0,
    ) -> Self:
        """Make the scheme.

        Args:
            levels: per task, which of p2..p5 its head reads.
            make_backbone: of a task.
            make_decoder: of a task.
            alpha: weight of a task's own features at the start, 0..1; the others share the rest
                evenly.
            lr_scale: learning rate of the units over that of the other new layers.
        """
        parts = (levels, make_backbone, make_decoder)
        return cls.stitch("cross_stitch", CrossStitchUnit, parts, alpha, lr_scale)

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        tasks = len(self.levels)
        channels = self.backbones[0].channels[stage]
        return f"cross-stitch unit {tasks} x {tasks} x {channels}", [self.units[stage]]

    def no_weight_decay(self) -> list[nn.Parameter]:
        return self.unit_parameters()
