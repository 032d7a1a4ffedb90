"""No sharing: the single-task baseline, trained in the same program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl.models.backbone import Backbone
from visionmtl.models.decoders import Decoder
from visionmtl.models.sharing.base import Sharing, parameters_reaching
from visionmtl.types import Pyramid


class IndependentSharing(Sharing):
    """One backbone and one decoder per task; no parameter is shared."""

    def __init__(
        self, backbones: Mapping[str, Backbone], decoders: Mapping[str, Decoder], levels: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(levels)
        self.trunks = nn.ModuleDict({task: nn.Sequential(backbones[task], decoders[task]) for task in levels})

    @classmethod
    def build(
        cls,
        levels: Mapping[str, Sequence[int]],
        make_backbone: Callable[[], Backbone],
        make_decoder: Callable[[Sequence[int]], Decoder],
    ) -> Self:
        backbones = {task: make_backbone() for task in levels}
        decoders = {task: make_decoder(backbones[task].channels) for task in levels}
        return cls(backbones, decoders, levels)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        return {task: trunk(image) for task, trunk in self.trunks.items() if tasks is None or task in tasks}

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        return parameters_reaching(*self._trunk(task), self.levels[task])

    @property
    def backbones(self) -> list[Backbone]:
        return [self._trunk(task)[0] for task in self.levels]

    def _trunk(self, task: str) -> tuple[Backbone, Decoder]:
        trunk = self.trunks[task]
        assert isinstance(trunk, nn.Sequential)
        backbone, decoder = trunk[0], trunk[1]
        assert isinstance(backbone, Backbone)
        assert isinstance(decoder, Decoder)
        return backbone, decoder
