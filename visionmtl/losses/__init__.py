"""Losses: ``(prediction, targets) -> scalar``, masked inside; 0 where nothing is valid."""

from __future__ import annotations

from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.criterion import Criterion, build_loss
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.losses.detection import FCOSLoss
from visionmtl.losses.mask import BalancedBCELoss, EdgeBCELoss
from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.losses.semseg import CrossEntropyLoss

__all__ = [
    "LOSSES",
    "AngularNormalsLoss",
    "BalancedBCELoss",
    "BerHuLoss",
    "CosineNormalsLoss",
    "Criterion",
    "CrossEntropyLoss",
    "DepthL1Loss",
    "EdgeBCELoss",
    "FCOSLoss",
    "SILogLoss",
    "TaskLoss",
    "build_loss",
]
