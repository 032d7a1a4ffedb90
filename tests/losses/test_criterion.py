from __future__ import annotations

import pytest
import torch

from visionmtl.losses import Criterion
from visionmtl.losses.depth import DepthL1Loss
from visionmtl.losses.normals import CosineNormalsLoss
from visionmtl.types import DenseTargets


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def test_losses_are_stacked_in_task_order() -> None:
    criterion = Criterion({"train": DepthL1Loss(), "normals": CosineNormalsLoss(), "depth": DepthL1Loss()})
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    predictions = {
        "depth": torch.full((1, 1, 1, 1), 3.0),
        "train": torch.full((1, 1, 1, 1), 2.0, requires_grad=True),
        "normals": -up,
    }
    targets = {
        "normals": make_targets(up),
        "depth": make_targets(torch.zeros(1, 1, 1, 1)),
        "train": make_targets(torch.zeros(1, 1, 1, 1), annotated=False),
    }
    losses = criterion(predictions, targets)
    assert criterion.tasks == ["train", "normals", "depth"]
    assert losses.tolist() == [0.0, 2.0, 3.0]
    losses.sum().backward()
    assert predictions["train"].grad is not None


def test_missing_tasks_are_named() -> None:
    criterion = Criterion({"depth": DepthL1Loss(), "near": DepthL1Loss()})
    ones = torch.ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"no targets for task 'near'; got \['depth'\]"):
        criterion({"depth": ones, "near": ones}, {"depth": make_targets(ones)})
    with pytest.raises(ValueError, match=r"no prediction for task 'depth', 'near'; got \[\]"):
        criterion({}, {})
    with pytest.raises(ValueError, match="at least one task"):
        Criterion({})
