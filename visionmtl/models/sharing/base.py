"""What every sharing scheme offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from visionmtl.models.backbone import Backbone
from visionmtl.models.decoders import Decoder
from visionmtl.types import Pyramid


class Sharing(nn.Module):
    """image (B, 3, H, W), normalised, H and W multiples of 32 -> one ``Pyramid`` p2..p5 per task.

    A scheme owns the backbone(s) and decoder(s), because schemes such as cross-stitch act between the stages.

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
        make_backbone: Callable[[], Backbone],
        make_decoder: Callable[[Sequence[int]], Decoder],
    ) -> Self:
        """Make the scheme with as many backbones and decoders (from channels of c2..c5) as it needs."""
        raise NotImplementedError

    def forward(self, image: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Pyramid]:
        """Pyramids of ``tasks`` (default: all), in task order."""
        raise NotImplementedError

    def parameters_reaching(self, task: str) -> list[nn.Parameter]:
        """The parameters on which the loss of ``task`` depends."""
        raise NotImplementedError

    @property
    def backbones(self) -> list[Backbone]:
        """All backbones, for the optimiser's parameter groups and the pixel statistics."""
        raise NotImplementedError

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that at least two task losses reach, in the order of ``parameters()``."""
        reached = Counter(id(p) for task in self.levels for p in self.parameters_reaching(task))
        return [p for p in self.parameters() if reached[id(p)] >= 2]


def parameters_reaching(backbone: Backbone, decoder: Decoder, levels: Sequence[int]) -> list[nn.Parameter]:
    """The parameters of one trunk on which the decoder's maps ``levels`` (0 is p2) depend."""
    inputs = decoder.inputs_reaching(levels)
    return [*backbone.parameters_reaching(inputs), *decoder.parameters_reaching(levels)]
