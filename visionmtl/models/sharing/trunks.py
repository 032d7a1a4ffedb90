"""Base of the schemes with one backbone and one decoder per task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from visionmtl.models.backbone.base import Backbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.models.sharing.base import Levels, MakeBackbone, MakeDecoder, Sharing


class TrunkPerTask(Sharing):
    """A trunk per task: a backbone and a decoder, whose parts have the same names in each.

    Args:
        backbones: per task, all of the same architecture.
        decoders: per task.
        levels: per task, which of p2..p5 its head reads.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        decoders: Mapping[str, Decoder],
        levels: Levels,
    ) -> None:
        super().__init__(levels)
        self.trunks = nn.ModuleDict()
        for task in levels:
            self.trunks[task] = nn.Sequential(backbones[task], decoders[task])

    @property
    def backbones(self) -> list[Backbone]:
        return [self.trunk(task)[0] for task in self.levels]

    def decoder_of(self, task: str) -> Decoder:
        return self.trunk(task)[1]

    def trunk(self, task: str) -> tuple[Backbone, Decoder]:
        trunk = self.trunks[task]
        assert isinstance(trunk, nn.Sequential)
        backbone = trunk[0]
        decoder = trunk[1]
        assert isinstance(backbone, Backbone)
        assert isinstance(decoder, Decoder)
        return backbone, decoder


def make_trunks(
    levels: Levels, make_backbone: MakeBackbone, make_decoder: MakeDecoder
) -> tuple[dict[str, Backbone], dict[str, Decoder]]:
    """A backbone and a decoder per task."""
    backbones = {task: make_backbone() for task in levels}
    decoders = {task: make_decoder(backbones[task].channels) for task in levels}
    return backbones, decoders
