"""No sharing: the single-task baseline, trained in the same program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl.models.sharing.base import (
    SHARING,
    MakeBackbone,
    MakeDecoder,
    TrunkPerTask,
    make_trunks,
    parameters_reaching,
)
from visionmtl.types import Pyramid


@SHARING.register("independent")
class IndependentSharing(TrunkPerTask):
    """One backbone and one decoder per task; no parameter is shared."""

    @classmethod
    def build(
        cls,
        levels: Mapping[str, Sequence[int]],
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
    ) -> Self:
        return cls(*make_trunks(levels, make_backbone, make_decoder), levels)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        return {
            task: trunk(image)
            for task, trunk in self.trunks.items()
            if tasks is None or task in tasks
        }

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        return parameters_reaching(*self.trunk(task), self.levels[task])
