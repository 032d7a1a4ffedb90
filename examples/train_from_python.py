"""Training from Python, without a config: ``python examples/train_from_python.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from visionmtl import create_model
from visionmtl.data import RoomsDataset, build_transform, make_loader
from visionmtl.engine import (
    Checkpoints,
    EarlyStopping,
    Loaders,
    MetricsLog,
    Trainer,
    TrainerOptions,
    TrainingParts,
    make_optimizer,
    parameter_groups,
)
from visionmtl.losses import Criterion, build_loss
from visionmtl.weighting import UncertaintyWeighting
from visionmtl.zoo import save_model


def main(folder: Path, samples: int = 64, epochs: int = 20) -> None:
    """Train two tasks on procedural rooms and write the model into ``folder``."""
    names = ["semseg", "depth"]
    train_set = RoomsDataset(samples, (96, 128), seed=0, tasks=names)
    val_set = RoomsDataset(8, (96, 128), seed=1, tasks=names)
    tasks = train_set.tasks
    augmented = build_transform(tasks, [{"type": "horizontal_flip"}])
    plain = build_transform(tasks, [])
    train, sampler = make_loader(train_set, tasks, augmented, batch_size=4, train=True)
    val, _ = make_loader(val_set, tasks, plain, batch_size=4, train=False)

    model = create_model("resnet10t", tasks, decoder_options={"channels": 32})
    losses = {spec.name: build_loss(spec) for spec in tasks}
    losses["depth"] = build_loss(tasks[1], "silog", alpha=1.0)
    weighting = UncertaintyWeighting(len(tasks))
    groups = parameter_groups(model, 0.01, 0.1, weighting)  # decay, rate of the backbone
    optimizer = make_optimizer(groups, "adamw", lr=1e-3)

    folder.mkdir(parents=True, exist_ok=True)
    callbacks = [EarlyStopping(patience=3), MetricsLog(folder), Checkpoints(folder / "checkpoints")]
    parts = TrainingParts(model, Criterion(losses), optimizer, weighting)
    trainer = Trainer(parts, Loaders(train, val, sampler), TrainerOptions(epochs), callbacks)
    results = trainer.fit()
    print(f"mIoU {results['semseg']['miou']:.1f} %, depth RMSE {results['depth']['rmse']:.2f} m")
    save_model(trainer.evaluated_model, folder / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
