"""Sharing schemes: image -> one ``Pyramid`` per task."""

from __future__ import annotations

from visionmtl.models.sharing.base import Sharing
from visionmtl.models.sharing.hard import HardSharing
from visionmtl.models.sharing.independent import IndependentSharing

SHARING: dict[str, type[Sharing]] = {"hard": HardSharing, "independent": IndependentSharing}

__all__ = ["SHARING", "HardSharing", "IndependentSharing", "Sharing"]
