"""Backbones: image (B, 3, H, W) -> ``Pyramid`` c2..c5 at strides 4, 8, 16, 32, from timm."""

from __future__ import annotations

from visionmtl.models.backbone.base import STRIDES, Backbone
from visionmtl.models.backbone.create import create_backbone
from visionmtl.models.backbone.staged import StagedBackbone
from visionmtl.models.backbone.whole import WholeBackbone

__all__ = ["STRIDES", "Backbone", "StagedBackbone", "WholeBackbone", "create_backbone"]
