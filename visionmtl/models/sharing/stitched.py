"""The schemes with units between trunks: cross-stitch and NDDR differ in the unit only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from visionmtl.models.backbone.base import Backbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.models.sharing.base import Levels, MakeBackbone, MakeDecoder, require_stages
from visionmtl.models.sharing.trunks import TrunkPerTask, make_trunks
from visionmtl.types import Pyramid

LrScale = Annotated[float, Field(gt=0, le=1000)]
"""Learning rate of the units over that of the other new layers."""


class Unit(nn.Module):
    """The features (B, C, H, W) of all tasks after one stage -> those they go on with."""

    def forward(self, maps: Mapping[str, Tensor], tasks: Collection[str]) -> dict[str, Tensor]:
        """Fused features of ``tasks``, in the order of ``maps``, which has every task."""
        raise NotImplementedError

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """The parameters on which the fused features of ``task`` depend."""
        raise NotImplementedError


class StitchedTrunks(TrunkPerTask):
    """A trunk per task, and after each of the four stages a unit that mixes their features.

    What a unit gives to a task goes to the next stage of its backbone and to its decoder. A decoder
    that reads no further than some stage gets the maps up to there.

    Args:
        backbones: per task, all of the same architecture and cut into stages.
        decoders: per task.
        levels: per task, which of p2..p5 its head reads.
        units: one per stage.
        lr_scale: learning rate of the units over that of the other new layers.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        decoders: Mapping[str, Decoder],
        levels: Levels,
        units: Sequence[Unit],
        lr_scale: float = 1.0,
    ) -> None:
        super().__init__(backbones, decoders, levels)
        self.units = nn.ModuleList(units)
        self.lr_scale = lr_scale

    @classmethod
    def stitch(
        cls,
        sharing: str,
        make_unit: Callable[[Tensor, int], Unit],
        parts: tuple[Levels, MakeBackbone, MakeDecoder],
        alpha: float,
        lr_scale: float,
    ) -> Self:
        """Make the trunks, and a unit per stage.

        Args:
            sharing: name of the scheme.
            make_unit: initial mixing (T, T) and channels of a stage -> unit.
            parts: levels per task, and makers of backbones and decoders.
            alpha: weight of a task's own features at the start.
            lr_scale: learning rate of the units over that of the other new layers.
        """
        levels, make_backbone, make_decoder = parts
        mixing = initial_mixing(len(levels), alpha)
        backbones, decoders = make_trunks(levels, make_backbone, make_decoder)
        first = next(iter(backbones.values()))
        require_stages(first, sharing)
        units = [make_unit(mixing, channels) for channels in first.channels]
        return cls(backbones, decoders, levels, units, lr_scale)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        last = {task: self._last_stage(task) for task in self.asked(tasks)}
        end = max([-1, *last.values()])
        maps = dict.fromkeys(self.levels, image)
        pyramids: dict[str, Pyramid] = {task: [] for task in last}
        for stage in range(end + 1):
            features = {task: self._stage(task, stage)(x) for task, x in maps.items()}
            needed = list(self.levels)
            if stage == end:
                needed = [task for task in last if last[task] == end]
            maps = self.units[stage](features, needed)
            for task, pyramid in pyramids.items():
                if stage <= last[task]:
                    pyramid.append(maps[task])
        return {task: self.decoder_of(task)(pyramid) for task, pyramid in pyramids.items()}

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """All backbones and units up to the last stage that the decoder reads.

        The units bring the map of every stage to all tasks, also where no decoder reads it. Of the
        last unit only what makes the row of the task counts.
        """
        last = self._last_stage(task)
        reaching: list[nn.Parameter] = []
        for backbone in self.backbones:
            reaching += backbone.parameters_reaching(range(last + 1))
        reaching += self.units[:last].parameters()
        reaching += self._unit(last).parameters_reaching(task)
        reaching += self.decoder_of(task).parameters_reaching(self.levels[task])
        return reaching

    def unit_parameters(self) -> list[nn.Parameter]:
        return list(self.units.parameters())

    def _last_stage(self, task: str) -> int:
        return max(self.decoder_of(task).inputs_reaching(self.levels[task]))

    def _stage(self, task: str, stage: int) -> nn.Module:
        stages = self.trunk(task)[0].stages
        assert stages is not None
        return stages[stage]

    def _unit(self, stage: int) -> Unit:
        unit = self.units[stage]
        assert isinstance(unit, Unit)
        return unit


def initial_mixing(num_tasks: int, alpha: float) -> Tensor:
    """(T, T), rows sum to 1: ``alpha`` on the diagonal, the rest even; (1, 1) of 1 for one task."""
    if num_tasks == 1:
        return torch.ones(1, 1)
    return torch.full((num_tasks, num_tasks), (1 - alpha) / (num_tasks - 1)).fill_diagonal_(alpha)
