"""Neural discriminative dimensionality reduction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from visionmtl._options import Fraction
from visionmtl.models.sharing.base import SHARING, MakeBackbone, MakeDecoder
from visionmtl.models.sharing.stitched import StitchedTrunks, Unit


class NDDRUnit(Unit):
    """Per task a 1 x 1 convolution of the concatenated features of all tasks, T * C -> C, and batch
    norm.

    Args:
        tasks: in task order.
        mixing: (T, T), the diagonals of each task's convolution at the start; all else in it is 0.
        channels: C of the features.
    """

    def __init__(self, tasks: Sequence[str], mixing: Tensor, channels: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleDict()
        for task, row in zip(tasks, mixing, strict=True):
            conv = nn.Conv2d(len(tasks) * channels, channels, kernel_size=1, bias=False)
            conv.weight = nn.Parameter(torch.kron(row, torch.eye(channels))[..., None, None])
            self.reduce[task] = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, maps: Mapping[str, Tensor], tasks: Collection[str]) -> dict[str, Tensor]:
        together = torch.cat(list(maps.values()), dim=1)
        return {task: self.reduce[task](together) for task in maps if task in tasks}

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        return list(self.reduce[task].parameters())


@SHARING.register("nddr")
class NDDR(StitchedTrunks):
    """One trunk per task; after each stage every task draws its features from those of all tasks.

    Gao et al. 2019, NDDR-CNN, https://arxiv.org/abs/1801.08297. The fused features of every stage
    also reach the decoder, which stands for the paper's shortcuts. Weight decay of the convolutions
    is part of the method. There is no ReLU after the batch norm, as some implementations have: in
    many backbones the last layer of a stage has none.
    """

    @classmethod
    def build(
        cls,
        levels: Mapping[str, Sequence[int]],
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
        *,
        alpha: Fraction = 1.0,
    ) -> Self:
        """``alpha``: weight of a task's own features at the start, 0..1 (the paper's best is 0.9).

        At 1 each unit passes a task's own features, up to batch norm; below, the others share the
        rest evenly.
        """
        return cls.stitch(
            "nddr", alpha, partial(NDDRUnit, list(levels)), levels, make_backbone, make_decoder
        )

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        tasks, channels = len(self.levels), self.backbones[0].channels[stage]
        return f"NDDR: per task 1x1 conv {tasks * channels} -> {channels} and BN", [
            self.units[stage]
        ]
