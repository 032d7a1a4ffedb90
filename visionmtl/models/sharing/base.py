"""What every sharing scheme offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl._registry import Registry
from visionmtl.models.backbone import Backbone
from visionmtl.models.decoders import Decoder
from visionmtl.types import Pyramid

MakeBackbone = Callable[[], Backbone]
MakeDecoder = Callable[[Sequence[int]], Decoder]


class Sharing(nn.Module):
    """image (B, 3, H, W), normalised, H and W multiples of 32 -> one ``Pyramid`` p2..p5 per task.

    A scheme owns the backbone(s) and decoder(s), because schemes such as cross-stitch act between
    the stages.

    Attributes:
        levels: per task, in task order, which of p2..p5 (0 is p2) its head reads.
    """

    def __init__(self, levels: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.levels = {task: tuple(levels_) for task, levels_ in levels.items()}

    @classmethod
    def build(
        cls,
        levels: Mapping[str, Sequence[int]],
        make_backbone: MakeBackbone,
        make_decoder: MakeDecoder,
    ) -> Self:
        """Make the scheme with as many backbones and decoders (from channels of c2..c5) as it
        needs.

        A scheme may have options of its own after these three: numbers, each with a default.

        Raises:
            ValueError: an option outside its range, or a backbone on which the scheme does not
                work.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        """Pyramids of ``tasks`` (default: all), in task order; computes nothing that these do not
        need.
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

    def unit_parameters(self) -> list[nn.Parameter]:
        """The parameters of the units between the trunks, which may have a learning rate of their
        own.
        """
        return []

    def penalty(self) -> Tensor | None:
        """What the scheme adds to the loss, a scalar with a graph; None: nothing."""
        return None

    def no_weight_decay(self) -> list[nn.Parameter]:
        """Parameters that no weight decay may pull to zero although they are no vectors."""
        return []

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        """What the scheme adds to a stage of the backbone (0 is the first), in words and as
        modules.
        """
        return "-", []

    def trunk(self, task: str) -> tuple[Backbone, Decoder]:
        """The backbone and decoder that only ``task`` has.

        Raises:
            ValueError: the scheme has no trunk per task.
        """
        raise ValueError(f"{type(self).__name__} has no trunk of its own for task {task!r}")

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that at least two task losses reach, in the order of ``parameters()``."""
        reached = Counter(id(p) for task in self.levels for p in self.parameters_reaching(task))
        return [p for p in self.parameters() if reached[id(p)] >= 2]


SHARING: Registry[Sharing] = Registry("sharing scheme")
"""Name in a config -> class; ``build`` makes it from ``levels`` and makers of its parts."""


class TrunkPerTask(Sharing):
    """Base of the schemes with one backbone and one decoder per task; their trunks have the same
    names in each.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        decoders: Mapping[str, Decoder],
        levels: Mapping[str, Sequence[int]],
    ) -> None:
        super().__init__(levels)
        self.trunks = nn.ModuleDict(
            {task: nn.Sequential(backbones[task], decoders[task]) for task in levels}
        )

    @property
    def backbones(self) -> list[Backbone]:
        return [self.trunk(task)[0] for task in self.levels]

    def attached(self, stage: int) -> tuple[str, list[nn.Module]]:
        """What the scheme adds to a stage of the backbone (0 is the first), in words and as
        modules.
        """
        return "-", []

    def decoder_of(self, task: str) -> Decoder:
        return self.trunk(task)[1]

    def trunk(self, task: str) -> tuple[Backbone, Decoder]:
        trunk = self.trunks[task]
        assert isinstance(trunk, nn.Sequential)
        backbone, decoder = trunk[0], trunk[1]
        assert isinstance(backbone, Backbone)
        assert isinstance(decoder, Decoder)
        return backbone, decoder


def make_trunks(
    levels: Mapping[str, Sequence[int]], make_backbone: MakeBackbone, make_decoder: MakeDecoder
) -> tuple[dict[str, Backbone], dict[str, Decoder]]:
    """A backbone and a decoder per task."""
    backbones = {task: make_backbone() for task in levels}
    return backbones, {task: make_decoder(backbones[task].channels) for task in levels}


def require_stages(backbone: Backbone, sharing: str) -> nn.ModuleList:
    """The stages of ``backbone``.

    Raises:
        ValueError: it cannot be cut between stages.
    """
    if backbone.stages is None:
        raise ValueError(
            f"sharing {sharing} works between the stages of a backbone, and {backbone.name!r} has one body that cannot "
            "be cut; use sharing hard or independent, or a backbone with stages, such as resnet, resnext, convnext, "
            "regnet, efficientnet, mobilenet, swin, pvt_v2, fastvit or repvit"
        )
    return backbone.stages


def parameters_reaching(
    backbone: Backbone, decoder: Decoder, levels: Sequence[int]
) -> list[nn.Parameter]:
    """The parameters of one trunk on which the decoder's maps ``levels`` (0 is p2) depend."""
    inputs = decoder.inputs_reaching(levels)
    return [*backbone.parameters_reaching(inputs), *decoder.parameters_reaching(levels)]
