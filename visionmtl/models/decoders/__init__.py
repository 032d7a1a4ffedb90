"""Decoders: ``Pyramid`` c2..c5 -> ``Pyramid`` p2..p5 of one width."""

from __future__ import annotations

from visionmtl.models.decoders.base import Decoder
from visionmtl.models.decoders.bifpn import BiFPN
from visionmtl.models.decoders.fpn import FPN

DECODERS: dict[str, type[FPN] | type[BiFPN]] = {"fpn": FPN, "bifpn": BiFPN}

__all__ = ["DECODERS", "FPN", "BiFPN", "Decoder"]
