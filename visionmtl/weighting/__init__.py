"""Loss weighting: losses (T,) -> scalar, one method per file."""

from __future__ import annotations

from visionmtl.weighting.base import LossWeighting
from visionmtl.weighting.constant import ConstantWeighting

__all__ = ["WEIGHTINGS", "ConstantWeighting", "LossWeighting"]

WEIGHTINGS: dict[str, type[LossWeighting]] = {"constant": ConstantWeighting}
"""Name in a config -> class."""
