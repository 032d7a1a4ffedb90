"""Sharing schemes: image -> one ``Pyramid`` per task."""

from __future__ import annotations

from visionmtl.models.sharing.base import SHARING, Sharing
from visionmtl.models.sharing.cross_stitch import CrossStitch
from visionmtl.models.sharing.hard import HardSharing
from visionmtl.models.sharing.independent import IndependentSharing
from visionmtl.models.sharing.mtan import MTAN
from visionmtl.models.sharing.nddr import NDDR

__all__ = ["MTAN", "NDDR", "SHARING", "CrossStitch", "HardSharing", "IndependentSharing", "Sharing"]
