"""Networks: backbones, decoders, sharing schemes and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionmtl.models.sharing import SHARING

__all__ = ["SHARING"]


def __getattr__(name: str) -> Any:
    """Import ``SHARING`` on first use (PEP 562): it loads timm, which model folders and the zoo do
    not need.
    """
    if name != "SHARING":
        raise AttributeError(f"module 'visionmtl.models' has no attribute {name!r}")
    from visionmtl.models.sharing import SHARING

    return SHARING
