"""Loss weighting: losses (T,) -> scalar, one method per file.

``WEIGHTINGS`` is the registry.

>>> import torch
>>> weighting = ConstantWeighting(["semseg", "depth"], weights={"semseg": 1.0, "depth": 0.5})
>>> weighting(torch.tensor([1.0, 4.0]), [True, True])
tensor(3.)
"""

from visionmtl.weighting.base import WEIGHTINGS, LossWeighting
from visionmtl.weighting.constant import ConstantWeighting
from visionmtl.weighting.db_mtl import DBMTLLog
from visionmtl.weighting.dwa import DynamicWeightAverage
from visionmtl.weighting.famo import FAMO
from visionmtl.weighting.gls import GeometricLoss
from visionmtl.weighting.gradnorm import GradNorm
from visionmtl.weighting.imtl_l import IMTLL
from visionmtl.weighting.rlw import RandomLossWeighting
from visionmtl.weighting.stch import STCH
from visionmtl.weighting.uncertainty import UncertaintyWeighting

__all__ = [
    "FAMO",
    "IMTLL",
    "STCH",
    "WEIGHTINGS",
    "ConstantWeighting",
    "DBMTLLog",
    "DynamicWeightAverage",
    "GeometricLoss",
    "GradNorm",
    "LossWeighting",
    "RandomLossWeighting",
    "UncertaintyWeighting",
]
