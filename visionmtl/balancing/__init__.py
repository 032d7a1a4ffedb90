"""Gradient balancing: Gramian of the task gradients (T, T) -> weights (T,), one method per file.

``BALANCERS`` is the registry; ``Balance`` does a backward pass with a method.

>>> import torch
>>> PCGrad()(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))  # two tasks without conflict
tensor([1., 1.])
"""

from visionmtl.balancing.aligned_mtl import AlignedMTL
from visionmtl.balancing.backward import Balance
from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.cagrad import CAGrad
from visionmtl.balancing.fairgrad import FairGrad
from visionmtl.balancing.gradvac import GradVac
from visionmtl.balancing.imtl_g import IMTLG
from visionmtl.balancing.mgda import MGDA
from visionmtl.balancing.nash_mtl import NashMTL
from visionmtl.balancing.pcgrad import PCGrad
from visionmtl.balancing.sum import Sum
from visionmtl.balancing.torchjd import TorchJDBalancer
from visionmtl.balancing.upgrad import UPGrad

__all__ = [
    "BALANCERS",
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "Balance",
    "CAGrad",
    "FairGrad",
    "GradVac",
    "GradientBalancer",
    "NashMTL",
    "PCGrad",
    "Sum",
    "TorchJDBalancer",
    "UPGrad",
]
