"""The schemes with units between trunks: cross-stitch and NDDR differ in the unit only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from visionmtl.models.backbone import Backbone
from visionmtl.models.decoders import Decoder
from visionmtl.models.sharing.base import (
    MakeBackbone,
    MakeDecoder,
    TrunkPerTask,
    make_trunks,
    require_stages,
)
from visionmtl.types import Pyramid


class Unit(nn.Module):
    """The features (B, C, H, W) that all tasks have after one stage -> the features they go on
    with, of that shape.
    """

    def forward(self, maps: Mapping[str, Tensor], tasks: Collection[str]) -> dict[str, Tensor]:
        """Fused features of ``tasks``, in the order of ``maps``, which has every task."""
        raise NotImplementedError

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """The parameters on which the fused features of ``task`` depend."""
        raise NotImplementedError


class StitchedTrunks(TrunkPerTask):
    """One backbone and one decoder per task, and after each of the four stages a unit that mixes
    their features.

    What a unit gives to a task goes to the next stage of its backbone and to its decoder. A decoder
    that reads no further than some stage gets the maps up to there.

    Args:
        backbones: per task, all of the same architecture and cut into stages.
        decoders: per task.
        levels: per task, which of p2..p5 its head reads.
        units: one per stage.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        decoders: Mapping[str, Decoder],
        levels: Mapping[str, Sequence[int]],
        units: Sequence[Unit],
    ) -> None:
        super().__init__(backbones, decoders, levels)
        self.units = nn.ModuleList(units)

    @classmethod
    def stitch(
        cls,
        sharing: str,
        alpha: float,
        make_unit: Callable[[Tensor, int], Unit],
        levels: Mapping[str, Sequence[int]],
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
    ) -> Self:
        """Make the trunks, and a unit per stage from the initial mixing (T, T) and the channels of
        the stage.
        """
        mixing = initial_mixing(len(levels), alpha)
        backbones, decoders = make_trunks(levels, make_backbone, make_decoder)
        units = [make_unit(mixing, channels) for channels in stage_channels(backbones, sharing)]
        return cls(backbones, decoders, levels, units)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        last = {
            task: self._last_stage(task) for task in self.levels if tasks is None or task in tasks
        }
        end = max(last.values(), default=-1)
        maps = dict.fromkeys(self.levels, image)
        pyramids: dict[str, Pyramid] = {task: [] for task in last}
        for stage in range(end + 1):
            features = {task: self._stage(task, stage)(x) for task, x in maps.items()}
            needed = self.levels if stage < end else [task for task in last if last[task] == end]
            maps = self.units[stage](features, needed)
            for task, pyramid in pyramids.items():
                if stage <= last[task]:
                    pyramid.append(maps[task])
        return {task: self.trunk(task)[1](pyramid) for task, pyramid in pyramids.items()}

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """All backbones and units up to the last stage that the decoder reads; of the last unit,
        what makes its row.
        """
        last, decoder = self._last_stage(task), self.trunk(task)[1]
        stages = range(
            last + 1
        )  # the units bring the map of every stage to all tasks, also where no decoder reads it
        return [
            *(p for backbone in self.backbones for p in backbone.parameters_reaching(stages)),
            *self.units[:last].parameters(),
            *self._unit(last).parameters_reaching(task),
            *decoder.parameters_reaching(self.levels[task]),
        ]

    def unit_parameters(self) -> list[nn.Parameter]:
        return list(self.units.parameters())

    def _last_stage(self, task: str) -> int:
        return max(self.trunk(task)[1].inputs_reaching(self.levels[task]))

    def _stage(self, task: str, stage: int) -> nn.Module:
        stages = self.trunk(task)[0].stages
        assert stages is not None
        return stages[stage]

    def _unit(self, stage: int) -> Unit:
        unit = self.units[stage]
        assert isinstance(unit, Unit)
        return unit


def stage_channels(backbones: Mapping[str, Backbone], sharing: str) -> list[int]:
    """The channels after each stage, the same in all ``backbones``.

    Raises:
        ValueError: they cannot be cut between stages.
    """
    backbone = next(iter(backbones.values()))
    require_stages(backbone, sharing)
    return backbone.channels


def initial_mixing(num_tasks: int, alpha: float) -> Tensor:
    """(T, T), rows sum to 1: ``alpha`` of a task's own features and as much of each other task's; T
    = 1: 1.
    """
    if num_tasks == 1:
        return torch.ones(1, 1)
    return torch.full((num_tasks, num_tasks), (1 - alpha) / (num_tasks - 1)).fill_diagonal_(alpha)
