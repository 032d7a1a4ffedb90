"""Training and evaluation.

A trainer takes built parts and plain values; what is not training (checkpoints, logs, pictures,
averaged weights, an early end, what is printed) is a callback::

    >>> import torch
    >>> from visionmtl.data.loader import make_loader
    >>> from visionmtl.data.rooms.dataset import RoomsDataset
    >>> from visionmtl.data.transforms.joint import build_transform
    >>> from visionmtl.losses import Criterion, build_loss
    >>> from visionmtl.models.factory import create_model
    >>> from visionmtl.weighting import ConstantWeighting

    >>> rooms = RoomsDataset(2, (64, 64), tasks=["semseg", "depth"])
    >>> model = create_model("test_resnet", rooms.tasks)
    >>> criterion = Criterion({spec.name: build_loss(spec) for spec in rooms.tasks})
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> parts = TrainingParts(model, criterion, optimizer, ConstantWeighting(["semseg", "depth"]))
    >>> transform = build_transform(rooms.tasks, [])
    >>> train, sampler = make_loader(rooms, rooms.tasks, transform, batch_size=2, train=True)
    >>> val, _ = make_loader(rooms, rooms.tasks, transform, batch_size=2, train=False)

    >>> class Losses(Callback):
    ...     def on_epoch_end(self, run, epoch):
    ...         print("epoch", run.progress.epoch, "of", list(epoch.losses))
    >>> trainer = Trainer(parts, Loaders(train, val, sampler), TrainerOptions(epochs=2), [Losses()])
    >>> results = trainer.fit()
    epoch 1 of ['semseg', 'depth']
    epoch 2 of ['semseg', 'depth']
    >>> results["samples"]
    {'total': 2, 'semseg': 2, 'depth': 2}

``engine.run`` makes all this from a config; ``StepParts`` and ``step_gradients`` are for a training
loop of one's own.
"""

from visionmtl.engine.callbacks import (
    EMA,
    Callback,
    Checkpoints,
    EarlyStopping,
    EpochSummary,
    MetricsLog,
    Pictures,
    Screen,
    TensorBoard,
)
from visionmtl.engine.distributed import World
from visionmtl.engine.evaluate import evaluate
from visionmtl.engine.optim import Schedule, make_optimizer, parameter_groups
from visionmtl.engine.parts import Loaders, TrainerOptions, TrainingParts
from visionmtl.engine.step import step_gradients
from visionmtl.engine.step_parts import StepParts, prepare
from visionmtl.engine.trainer import Trainer

__all__ = [
    "EMA",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "EpochSummary",
    "Loaders",
    "MetricsLog",
    "Pictures",
    "Schedule",
    "Screen",
    "StepParts",
    "TensorBoard",
    "Trainer",
    "TrainerOptions",
    "TrainingParts",
    "World",
    "evaluate",
    "make_optimizer",
    "parameter_groups",
    "prepare",
    "step_gradients",
]
