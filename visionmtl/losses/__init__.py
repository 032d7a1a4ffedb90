"""Losses: ``(prediction, targets) -> scalar``, masked inside, 0 with a graph where nothing is
valid.
"""

from visionmtl.losses.base import TaskLoss
from visionmtl.losses.criterion import Criterion
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.losses.detection import FCOSLoss
from visionmtl.losses.mask import BalancedBCELoss, EdgeBCELoss
from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.losses.semseg import CrossEntropyLoss

__all__ = [
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
]
