"""A training loop of one's own around the balanced gradient: ``python examples/own_loop.py``."""

from __future__ import annotations

import torch

from visionmtl import create_model
from visionmtl.balancing import Balance, PCGrad
from visionmtl.data import RoomsDataset, build_transform, make_loader
from visionmtl.engine import StepParts, World, evaluate, prepare, step_gradients
from visionmtl.losses import Criterion, build_loss
from visionmtl.metrics import validation_score
from visionmtl.weighting import ConstantWeighting


def main(samples: int = 64, epochs: int = 5) -> float:
    """Train with PCGrad; the validation score in percent."""
    rooms = RoomsDataset(samples, (96, 128), tasks=["semseg", "depth", "normals"])
    tasks = rooms.tasks
    transform = build_transform(tasks, [])
    loader, sampler = make_loader(rooms, tasks, transform, batch_size=4, train=True)

    model = create_model("resnet10t", tasks, decoder_options={"channels": 32})
    criterion = Criterion({spec.name: build_loss(spec) for spec in tasks})
    weighting = ConstantWeighting([spec.name for spec in tasks], weights={"normals": 0.5})
    balance = Balance(PCGrad(), model, scope="parameters", every=1, sum_=World().sum_)
    parts = StepParts(model, criterion, weighting, balance)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    number = 0
    for epoch in range(epochs):
        sampler.epoch = epoch  # another order, other augmentations
        model.train()
        for batch in loader:
            number += 1
            step = prepare(parts, [batch], number)  # several batches accumulate
            losses = step_gradients(parts, step)  # of the tasks; the balanced gradient is in .grad
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}: losses {losses.tolist()}, weights {balance.weights.tolist()}")
    parts.finite.flush()  # on CUDA a loss that is not finite shows one step later

    val_set = RoomsDataset(8, (96, 128), seed=1, tasks=[spec.name for spec in tasks])
    val, _ = make_loader(val_set, tasks, transform, batch_size=4, train=False)
    results = evaluate(model, val, parts.device)
    return validation_score(results, tasks)


if __name__ == "__main__":
    print(f"validation score {main():.1f} %")
