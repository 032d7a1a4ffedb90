"""Losses: ``(prediction, targets) -> scalar``, masked inside, 0 with a graph where nothing is
valid.

``LOSSES`` is the registry, ``build_loss`` makes the loss of a task and ``Criterion`` the losses of
all tasks.

>>> import torch
>>> from visionmtl.types import DenseTargets
>>> valid = torch.tensor([[[True, False]]])
>>> truth = DenseTargets(torch.tensor([[[[2.0, 0.0]]]]), valid, torch.tensor([True]))
>>> DepthL1Loss()(torch.tensor([[[[2.5, 9.0]]]]), truth)
tensor(0.5000)
"""

from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.criterion import Criterion, build_loss
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss, SILogLoss
from visionmtl.losses.detection import FCOSLoss
from visionmtl.losses.mask import BalancedBCELoss, EdgeBCELoss
from visionmtl.losses.normals import AngularNormalsLoss, CosineNormalsLoss
from visionmtl.losses.reduction import masked_mean
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
    "masked_mean",
]
