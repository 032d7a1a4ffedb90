"""Decoders: ``Pyramid`` c2..c5 -> ``Pyramid`` p2..p5 of one width."""

from __future__ import annotations

from visionmtl.models.decoders.base import DECODERS, Decoder
from visionmtl.models.decoders.bifpn import BiFPN
from visionmtl.models.decoders.fpn import FPN

__all__ = ["DECODERS", "FPN", "BiFPN", "Decoder"]
