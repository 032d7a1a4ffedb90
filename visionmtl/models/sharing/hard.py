"""Hard parameter sharing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl.models.backbone.base import Backbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.models.sharing.base import (
    SHARING,
    Levels,
    MakeBackbone,
    MakeDecoder,
    Sharing,
    parameters_reaching,
)
from visionmtl.types import Pyramid


@SHARING.register("hard")
class HardSharing(Sharing):
    """One backbone and one decoder for all tasks; only the heads are private (Caruana 1997)."""

    def __init__(self, backbone: Backbone, decoder: Decoder, levels: Levels) -> None:
        super().__init__(levels)
        self.backbone = backbone
        self.decoder = decoder

    @classmethod
    def build(cls, levels: Levels, make_backbone: MakeBackbone, make_decoder: MakeDecoder) -> Self:
        backbone = make_backbone()
        return cls(backbone, make_decoder(backbone.channels), levels)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        pyramid = self.decoder(self.backbone(image))
        return dict.fromkeys(self.asked(tasks), pyramid)

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        return parameters_reaching(self.backbone, self.decoder, self.levels[task])

    @property
    def backbones(self) -> list[Backbone]:
        return [self.backbone]

    def decoder_of(self, task: str) -> Decoder:
        return self.decoder

    def trunk(self, task: str) -> tuple[Backbone, Decoder]:
        if len(self.levels) == 1:
            return self.backbone, self.decoder
        return super().trunk(task)
