"""The parts of the engine in a user's own program, without any config."""

from __future__ import annotations

import torch

from visionmtl.balancing.backward import Balance
from visionmtl.balancing.pcgrad import PCGrad
from visionmtl.data.loader import make_loader
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.transforms.joint import build_transform
from visionmtl.engine import (
    Loaders,
    StepParts,
    Trainer,
    TrainerOptions,
    TrainingParts,
    World,
    prepare,
    step_gradients,
)
from visionmtl.losses import Criterion, build_loss
from visionmtl.models.factory import create_model
from visionmtl.weighting import ConstantWeighting

TRAIN = RoomsDataset(4, (64, 64), tasks=["semseg", "depth"])
VAL = RoomsDataset(2, (64, 64), seed=1, tasks=["semseg", "depth"])


def test_a_trainer_of_own_parts() -> None:
    tasks = TRAIN.tasks
    torch.manual_seed(0)
    model = create_model("test_resnet", tasks, decoder_options={"channels": 8})
    criterion = Criterion({spec.name: build_loss(spec) for spec in tasks})
    weighting = ConstantWeighting(list(model.heads), weights={"depth": 0.5})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    transform = build_transform(tasks, [])
    train, sampler = make_loader(TRAIN, tasks, transform, batch_size=2, train=True)
    val, _ = make_loader(VAL, tasks, transform, batch_size=2, train=False)

    parts = TrainingParts(model, criterion, optimizer, weighting)
    results = Trainer(parts, Loaders(train, val, sampler), TrainerOptions(epochs=2)).fit()

    assert results["semseg"]["miou"] >= 0
    assert results["samples"]["total"] == 2


def test_a_loop_of_ones_own_with_balanced_gradients() -> None:
    tasks = TRAIN.tasks
    torch.manual_seed(0)
    model = create_model("test_resnet", tasks, decoder_options={"channels": 8})
    criterion = Criterion({spec.name: build_loss(spec) for spec in tasks})
    balance = Balance(PCGrad(), model, "parameters", 1, World().sum_)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train, _ = make_loader(TRAIN, tasks, build_transform(tasks, []), batch_size=4, train=True)

    parts = StepParts(model, criterion, ConstantWeighting(list(model.heads)), balance)
    totals = []
    for number in range(1, 9):
        (batch,) = train
        losses = step_gradients(parts, prepare(parts, [batch], number))
        optimizer.step()
        optimizer.zero_grad()
        totals.append(float(losses.sum()))

    assert totals[-1] < totals[0]
