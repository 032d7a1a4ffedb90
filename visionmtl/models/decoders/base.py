"""What every decoder offers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from visionmtl._registry import Registry
from visionmtl.models.backbone.base import STRIDES
from visionmtl.types import Pyramid


class Decoder(nn.Module):
    """``Pyramid`` c2..c5 -> ``Pyramid`` p2..p5 of one width.

    Attributes:
        channels: width of every output map.
        strides: strides of the output maps, finest first. Heads are built from them.
    """

    def __init__(self, channels: int, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.channels = channels
        self.strides = list(strides)

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


def check_decoder(decoder: Decoder, in_channels: Sequence[int]) -> None:
    """Try a decoder on maps of zeros: what it publishes has to be what it gives.

    Args:
        decoder: to be tried.
        in_channels: channels of c2..c5.

    Raises:
        ValueError: its maps have other shapes than ``channels`` and ``strides`` say.
    """
    unit = math.lcm(*STRIDES, *decoder.strides)
    height = 2 * unit
    width = 3 * unit
    maps = []
    for channels, stride in zip(in_channels, STRIDES, strict=True):
        maps.append(torch.zeros(1, channels, height // stride, width // stride))
    training = decoder.training
    with torch.no_grad():
        pyramid = decoder.eval()(maps)
    decoder.train(training)
    given = [tuple(p.shape[1:]) for p in pyramid]
    published = [(decoder.channels, height // s, width // s) for s in decoder.strides]
    if given != published:
        name = type(decoder).__name__
        says = f"publishes {decoder.channels} channels and strides {decoder.strides}"
        expected = f"maps of {published} on a {height} x {width} image"
        raise ValueError(f"{name} {says}, that is {expected}, but gives {given}")
