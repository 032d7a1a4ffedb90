"""Task attention on one backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from visionmtl.models.backbone.base import Backbone
from visionmtl.models.backbone.staged import StagedBackbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.models.layers import ConvBNReLU
from visionmtl.models.sharing.base import (
    SHARING,
    Levels,
    MakeBackbone,
    MakeDecoder,
    Sharing,
    require_stages,
)
from visionmtl.types import Pyramid


class Attention(nn.Sequential):
    """What a task sees of a stage (B, in_channels, h, w) -> mask (B, channels, h, w) in 0..1.

    That is equation 2. The hidden width, which section 3 leaves open, is a quarter of the stage's
    (at least 16).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        hidden = max(channels // 4, 16)
        super().__init__(
            ConvBNReLU(in_channels, hidden, 1),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Sigmoid(),
        )


@SHARING.register("mtan")
class MTAN(Sharing):
    """One backbone for all tasks; per task, attention masks on its stages and a decoder.

    Liu, Johns and Davison 2019, End-to-End Multi-Task Learning with Attention
    (https://arxiv.org/abs/1803.10704), section 3 and figure 2. With u_s the backbone's features in
    the middle of stage s and p_s its output, task t has

        a_s = mask_s([u_s, refine_s(a_{s-1})]) * p_s

    where ``refine``, the same for all tasks, is a 3 x 3 convolution, batch norm, ReLU and, as every
    stage of the backbone strides by two, a 2 x 2 max pooling. The first stage sees u_0 alone. Where
    the paper has a mirrored decoder with attention, the task's decoder here reads a_0..a_3 as its
    c2..c5 (up to the last that it needs).

    The middle of a stage is, in every family, the output of block ceil(n / 2) of its n blocks at
    the stage's resolution: the first of two in ResNet-18, the third of six in Swin-T's third stage.
    A stage of one block, as MobileNetV3 has, or without a chain of blocks gives its output for both
    (``visionmtl.models.backbone.halves``). A table in docs/sharing.md says it for every family.
    """

    def __init__(
        self, backbone: StagedBackbone, decoders: Mapping[str, Decoder], levels: Levels
    ) -> None:
        super().__init__(levels)
        halves = backbone.tap_halves()
        channels = backbone.channels
        self.backbone = backbone
        self.refine = nn.ModuleList()
        seen = [halves[0].channels]
        for stage in (1, 2, 3):
            conv = ConvBNReLU(channels[stage - 1], channels[stage])
            self.refine.append(nn.Sequential(conv, nn.MaxPool2d(2)))
            seen.append(halves[stage].channels + channels[stage])
        self.attention = nn.ModuleDict()
        for task in levels:
            self.attention[task] = nn.ModuleList(map(Attention, seen, channels))
        self.decoders = nn.ModuleDict({task: decoders[task] for task in levels})

    @classmethod
    def build(cls, levels: Levels, make_backbone: MakeBackbone, make_decoder: MakeDecoder) -> Self:
        backbone = make_backbone()
        require_stages(backbone, "mtan")
        assert isinstance(backbone, StagedBackbone)
        return cls(backbone, {task: make_decoder(backbone.channels) for task in levels}, levels)

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        needed = {task: self._num_stages(task) for task in self.asked(tasks)}
        features = self.backbone.forward_halves(image, max([0, *needed.values()]))
        pyramids = {}
        for task, num_stages in needed.items():
            _, attended = self._attend(task, features[:num_stages])
            pyramids[task] = self.decoders[task](attended)
        return pyramids

    def masks(self, image: Tensor) -> dict[str, list[Tensor]]:
        """Per task the four masks by which it reads c2..c5, (B, C_s, h, w) in 0..1."""
        features = self.backbone.forward_halves(image)
        return {task: self._attend(task, features)[0] for task in self.levels}

    def _attend(
        self, task: str, features: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[list[Tensor], Pyramid]:
        """The mask and the attended map of every stage, from its (u, p)."""
        attention = self._attention(task)
        masks: list[Tensor] = []
        attended: Pyramid = []
        for stage, (u, p) in enumerate(features):
            seen = u
            if stage > 0:
                refined = self.refine[stage - 1](attended[-1])
                seen = torch.cat([u, refined], dim=1)
            mask = attention[stage](seen)
            masks.append(mask)
            attended.append(mask * p)
        return masks, attended

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        num_stages = self._num_stages(task)
        return [
            *self.backbone.parameters_reaching(range(num_stages)),
            *self.refine[: num_stages - 1].parameters(),
            *self._attention(task)[:num_stages].parameters(),
            *self.decoder_of(task).parameters_reaching(self.levels[task]),
        ]

    def _num_stages(self, task: str) -> int:
        """How many stages the decoder needs; the last one's attention depends on all before it."""
        return max(self.decoder_of(task).inputs_reaching(self.levels[task])) + 1

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        words = f"per task attention, sees {self.backbone.halves[stage]}"
        modules = [self._attention(task)[stage] for task in self.levels]
        if stage > 0:
            words += " + refining conv"
            modules.append(self.refine[stage - 1])
        return words, modules

    @property
    def backbones(self) -> list[Backbone]:
        return [self.backbone]

    def decoder_of(self, task: str) -> Decoder:
        decoder = self.decoders[task]
        assert isinstance(decoder, Decoder)
        return decoder

    def _attention(self, task: str) -> nn.ModuleList:
        attention = self.attention[task]
        assert isinstance(attention, nn.ModuleList)
        return attention
