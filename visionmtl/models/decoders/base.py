"""What every decoder offers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from visionmtl._registry import Registry
from visionmtl.types import Pyramid


class Decoder(nn.Module):
    """``Pyramid`` c2..c5 -> ``Pyramid`` p2..p5 of one width.

    Attributes:
        channels: width of every output map.
        strides: strides of the output maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.strides = [4, 8, 16, 32]

    def forward(self, pyramid: Pyramid) -> Pyramid:
        raise NotImplementedError

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        """The parameters on which the output maps ``levels`` (0 is p2) depend."""
        return list(self.parameters())

    def inputs_reaching(self, levels: Sequence[int]) -> list[int]:
        """Which input maps (0 is c2) the output maps ``levels`` depend on."""
        return [0, 1, 2, 3]


DECODERS: Registry[Decoder] = Registry("decoder")
"""Name in a config -> class; ``in_channels`` comes from the backbone."""
