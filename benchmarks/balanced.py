"""Training steps with equal weighting and with our PCGrad, in both scopes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.common import DenseWorkload, Work
from visionmtl.balancing import PCGrad
from visionmtl.balancing.backward import Balance, Scope
from visionmtl.balancing.partition import cut


def equal(workload: DenseWorkload) -> None:
    """The gradient of the sum of the losses, by plain PyTorch."""
    predictions = workload.model(workload.images)
    workload.criterion(predictions, workload.targets).sum().backward()


def ours(workload: DenseWorkload, scope: Scope) -> Work:
    """What the trainer does for the gradient of a step with PCGrad."""
    balance = Balance(PCGrad(), workload.model, scope, 1, _one_process)
    present = [True] * len(workload.tasks)
    ones = torch.ones(len(present), device=workload.images.device)
    generator = torch.Generator().manual_seed(0)

    def gradients() -> None:
        collected = balance.start(present, 0)
        pyramids = workload.model.features(workload.images)
        leaves = cut(pyramids)
        predictions = workload.model.predict(leaves, workload.size)
        workload.criterion(predictions, workload.targets).sum().backward()
        collected.add(pyramids, leaves, present)
        gramian = collected.gramian()
        assert gramian is not None
        balance.update(gramian, ones, present, generator)
        collected.write(balance.weights, ones)

    return gradients


def _one_process(tensors: Sequence[Tensor]) -> None:
    """The sum over all processes, of which there is one."""
