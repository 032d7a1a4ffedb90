"""Config -> what a trainer is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from visionmtl.config.schema import Config
from visionmtl.data.loader import make_loader
from visionmtl.engine.build import (
    build_balance,
    build_criterion,
    build_parameter_groups,
    build_weighting,
)
from visionmtl.engine.callbacks.base import Callback
from visionmtl.engine.callbacks.checkpoints import Checkpoints
from visionmtl.engine.callbacks.ema import EMA
from visionmtl.engine.callbacks.metrics_log import MetricsLog
from visionmtl.engine.callbacks.pictures import Pictures
from visionmtl.engine.callbacks.screen import Screen
from visionmtl.engine.callbacks.tensorboard import TensorBoard
from visionmtl.engine.datasets import build_transforms
from visionmtl.engine.distributed import World
from visionmtl.engine.optim import Schedule, make_optimizer
from visionmtl.engine.parts import Loaders, TrainingParts
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import MultiTaskDataset


def build_loaders(
    config: Config,
    train_set: MultiTaskDataset,
    val_set: MultiTaskDataset,
    device: torch.device,
    world: World,
) -> Loaders:
    """The batches of a run."""
    options = config.trainer
    transforms = build_transforms(config, train_set.tasks)
    common: dict[str, Any] = {
        "seed": config.seed,
        "workers": config.data.workers,
        "pin_memory": device.type == "cuda",
        "rank": world.rank,
        "processes": world.size,
    }
    train_loader, sampler = make_loader(
        train_set,
        train_set.tasks,
        transforms["train"],
        batch_size=options.batch_size,
        train=True,
        **common,
    )
    val_loader, _ = make_loader(
        val_set,
        train_set.tasks,
        transforms["val"],
        batch_size=options.eval_batch_size or options.batch_size,
        train=False,
        **common,
    )
    return Loaders(train_loader, val_loader, sampler)


def build_training_parts(
    config: Config, model: MultiTaskModel, steps_per_epoch: int, world: World
) -> TrainingParts:
    """What trains a network that is on its device."""
    device = model.mean.device
    weighting = build_weighting(config, model.tasks).to(device)
    balance = build_balance(config, model, weighting, world)
    groups = build_parameter_groups(config, model, weighting)
    optimizer = make_optimizer(groups, config.optimizer.name, config.optimizer.lr)
    schedule = Schedule(
        optimizer,
        config.schedule.name,
        config.optimizer.lr,
        total_steps=config.trainer.epochs * steps_per_epoch,
        warmup_steps=round(config.schedule.warmup_epochs * steps_per_epoch),
        min_lr_scale=config.schedule.min_lr_scale,
    )
    criterion = build_criterion(config, model.tasks)
    return TrainingParts(model, criterion, optimizer, weighting, balance, schedule)


def build_callbacks(
    config: Config,
    folder: Path,
    model: MultiTaskModel,
    val_set: MultiTaskDataset,
    content: Mapping[str, Any],
    console: Console,
    world: World,
) -> list[Callback]:
    """What is done beside the training; the main process writes, all take part in checkpoints."""
    callbacks: list[Callback] = [Screen(console)]
    if config.trainer.ema is not None:
        callbacks.append(EMA(model, config.trainer.ema))
    if world.is_main:
        callbacks.append(MetricsLog(folder))
        pictures = Pictures(folder / "pictures", config.logging.pictures, val_set)
        callbacks.append(pictures)
        if config.logging.tensorboard:
            callbacks.append(TensorBoard(folder / "tensorboard", pictures))
    callbacks.append(Checkpoints(folder / "checkpoints", config.trainer.checkpoint_every, content))
    return callbacks
