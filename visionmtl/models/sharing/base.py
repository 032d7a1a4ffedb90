"""What every sharing scheme offers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl._registry import Registry
from visionmtl.models.backbone.base import Backbone
from visionmtl.models.decoders.base import Decoder
from visionmtl.types import Pyramid

Levels = Mapping[str, Sequence[int]]
"""Per task, in task order, which of p2..p5 (0 is p2) its head reads."""
MakeBackbone = Callable[[], Backbone]
MakeDecoder = Callable[[Sequence[int]], Decoder]
"""Channels of c2..c5 -> decoder."""


class Sharing(nn.Module):
    """image (B, 3, H, W), normalised, H and W multiples of ``multiple`` -> a ``Pyramid`` per task.

    A scheme owns the backbone(s) and decoder(s), because schemes such as cross-stitch act between
    the stages.

    Attributes:
        levels: per task, in task order, which of p2..p5 (0 is p2) its head reads.
        lr_scale: learning rate of ``unit_parameters`` over that of the other new layers.
    """

    lr_scale: float = 1.0

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self.levels = {task: tuple(read) for task, read in levels.items()}

    @classmethod
    def build(cls, levels: Levels, make_backbone: MakeBackbone, make_decoder: MakeDecoder) -> Self:
        """Make the scheme with as many backbones and decoders as it needs.

        The options of a scheme follow these three, by keyword, each with a default.

        Raises:
            ValueError: an option outside its range, or a backbone on which the scheme does not
                work.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        """Pyramids of ``tasks`` (default: all), in task order.

        Computes nothing that these do not need.
        """
        raise NotImplementedError

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """The parameters on which the loss of ``task`` depends."""
        raise NotImplementedError

    @property
    def backbones(self) -> list[Backbone]:
        """All backbones, for the optimiser's parameter groups and the pixel statistics."""
        raise NotImplementedError

    def decoder_of(self, task: str) -> Decoder:
        """The decoder whose maps the head of ``task`` reads."""
        raise NotImplementedError

    @property
    def multiple(self) -> int:
        """What H and W must be multiples of: every stride divides it."""
        strides = set()
        for backbone in self.backbones:
            strides.update(backbone.strides)
        for task in self.levels:
            strides.update(self.decoder_of(task).strides)
        return math.lcm(*strides)

    def strides_of(self, task: str) -> list[int]:
        """Strides of the maps that the head of ``task`` reads."""
        strides = self.decoder_of(task).strides
        return [strides[level] for level in self.levels[task]]

    def penalty(self) -> Tensor | None:
        """A term of the loss, weighted, that pulls trunks together; None for none."""
        return None

    def unit_parameters(self) -> list[nn.Parameter]:
        """The parameters between the trunks, whose learning rate ``lr_scale`` multiplies."""
        return []

    def no_weight_decay(self) -> list[nn.Parameter]:
        """Parameters that no weight decay may pull to zero although they are no vectors."""
        return []

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        """What the scheme adds to a stage of the backbone, in words and as modules."""
        return "-", []

    def trunk(self, task: str) -> tuple[Backbone, Decoder]:
        """The backbone and decoder that only ``task`` has.

        Raises:
            ValueError: the scheme has no trunk per task.
        """
        raise ValueError(f"{type(self).__name__} has no trunk of its own for task {task!r}")

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that at least two task losses reach, in the order of ``parameters()``."""
        reached: Counter[int] = Counter()
        for task in self.levels:
            reached.update(id(p) for p in self.parameters_reaching(task))
        return [p for p in self.parameters() if reached[id(p)] >= 2]

    def asked(self, tasks: Sequence[str] | None) -> list[str]:
        """``tasks`` in task order; all for None."""
        if tasks is None:
            return list(self.levels)
        return [task for task in self.levels if task in tasks]


SHARING: Registry[Sharing] = Registry("sharing scheme")
"""Name in a config -> class; ``build`` makes it from ``levels`` and makers of its parts."""


def require_stages(backbone: Backbone, sharing: str) -> nn.ModuleList:
    """The stages of ``backbone``.

    Raises:
        ValueError: it cannot be cut between stages.
    """
    if backbone.stages is None:
        works = f"sharing {sharing} works between the stages of a backbone"
        problem = f"{backbone.name!r} has one body that cannot be cut"
        stages = "resnet, resnext, convnext, regnet, efficientnet, mobilenet, swin, pvt_v2, fastvit"
        advice = f"or a backbone with stages, such as {stages} or repvit"
        raise ValueError(f"{works}, and {problem}; use sharing hard or independent, {advice}")
    return backbone.stages


def parameters_reaching(
    backbone: Backbone, decoder: Decoder, levels: Sequence[int]
) -> list[nn.Parameter]:
    """The parameters of one trunk on which the decoder's maps ``levels`` (0 is p2) depend."""
    inputs = decoder.inputs_reaching(levels)
    return [*backbone.parameters_reaching(inputs), *decoder.parameters_reaching(levels)]
