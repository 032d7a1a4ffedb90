"""Heads: ``Pyramid`` -> the prediction of one task."""

from __future__ import annotations

from visionmtl.models.heads.base import HEADS, DenseHead, Head
from visionmtl.models.heads.depth import DepthHead
from visionmtl.models.heads.detection import DetectionHead
from visionmtl.models.heads.disparity import DisparityHead
from visionmtl.models.heads.mask import MaskHead
from visionmtl.models.heads.normals import NormalsHead
from visionmtl.models.heads.semseg import SemSegHead

__all__ = [
    "HEADS",
    "DenseHead",
    "DepthHead",
    "DetectionHead",
    "DisparityHead",
    "Head",
    "MaskHead",
    "NormalsHead",
    "SemSegHead",
]
