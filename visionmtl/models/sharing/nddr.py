"""Neural discriminative dimensionality reduction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from visionmtl._options import Fraction
from visionmtl.models.sharing.base import SHARING, Levels, MakeBackbone, MakeDecoder
from visionmtl.models.sharing.stitched import LrScale, StitchedTrunks, Unit


class NDDRUnit(Unit):
    """Per task a 1 x 1 convolution of the features of all tasks, T * C -> C, and batch norm.

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
            diagonals = torch.kron(row, torch.eye(channels))
            conv.weight = nn.Parameter(diagonals[..., None, None])
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
        levels: Levels,
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
        *,
        alpha: Fraction = 1.0,
        lr_scale: LrScale = 1.0,
    ) -> Self:
        """Make the scheme.

        Args:
            levels: per task, which of p2..p5 its head reads.
            make_backbone: of a task.
            make_decoder: of a task.
            alpha: weight of a task's own features at the start, 0..1 (the paper's best is 0.9). At
                1 each unit passes a task's own features, up to batch norm; below, the others share
                the rest evenly.
            lr_scale: learning rate of the units over that of the other new layers.
        """
        parts = (levels, make_backbone, make_decoder)
        return cls.stitch("nddr", partial(NDDRUnit, list(levels)), parts, alpha, lr_scale)

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        tasks = len(self.levels)
        channels = self.backbones[0].channels[stage]
        words = f"NDDR: per task 1x1 conv {tasks * channels} -> {channels} and BN"
        return words, [self.units[stage]]
