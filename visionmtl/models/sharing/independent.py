"""No sharing: the single-task baseline, trained in the same program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from torch import Tensor, nn

from visionmtl._options import NonNegative
from visionmtl.models.backbone.base import Backbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.models.sharing.base import (
    SHARING,
    Levels,
    MakeBackbone,
    MakeDecoder,
    parameters_reaching,
)
from visionmtl.models.sharing.penalty import PENALTIES, common_layers
from visionmtl.models.sharing.trunks import TrunkPerTask, make_trunks
from visionmtl.types import Pyramid


@SHARING.register("independent")
class IndependentSharing(TrunkPerTask):
    """One backbone and one decoder per task; no parameter is shared.

    With a penalty on how far the trunks are from each other this is soft sharing, see
    ``models.sharing.penalty``.

    Args:
        backbones: per task, all of the same architecture.
        decoders: per task.
        levels: per task, which of p2..p5 its head reads.
        penalty: a name of ``PENALTIES``; None for none.
        penalty_weight: factor of the penalty in the loss.

    Raises:
        ValueError: a penalty with fewer than two tasks.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        decoders: Mapping[str, Decoder],
        levels: Levels,
        penalty: str | None = None,
        penalty_weight: float = 1e-4,
    ) -> None:
        super().__init__(backbones, decoders, levels)
        if penalty is not None and len(levels) < 2:
            tasks = list(levels)
            raise ValueError(
                f"model.sharing.penalty: needs at least two tasks, the model has {tasks}"
            )
        self.penalty_name = penalty
        self.penalty_weight = penalty_weight

    @classmethod
    def build(
        cls,
        levels: Levels,
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
        *,
        penalty: Literal["l2_distance", "trace_norm"] | None = None,
        penalty_weight: NonNegative = 1e-4,
    ) -> Self:
        backbones, decoders = make_trunks(levels, make_backbone, make_decoder)
        return cls(backbones, decoders, levels, penalty, penalty_weight)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        return {task: self.trunks[task](image) for task in self.asked(tasks)}

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        backbone, decoder = self.trunk(task)
        return parameters_reaching(backbone, decoder, self.levels[task])

    def penalty(self) -> Tensor | None:
        if self.penalty_name is None:
            return None
        return self.penalty_weight * PENALTIES[self.penalty_name](common_layers(self))
