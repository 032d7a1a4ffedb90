"""What is known of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionmtl import __version__
from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.data.base import DATASETS
from visionmtl.engine.environment import command, hardware
from visionmtl.engine.logging import json_safe
from visionmtl.engine.trainer import Trainer
from visionmtl.zoo.card import TrainingRecord


def training_record(trainer: Trainer, config: Config, best: Mapping[str, Any]) -> TrainingRecord:
    """What a trainer has done.

    Args:
        trainer: is done.
        config: of the run.
        best: content of the checkpoint that was chosen.
    """
    machine = hardware(trainer.device)
    if trainer.world.size > 1:
        machine = f"{trainer.world.size} x {machine}"
    names = []
    splits = []
    for source in sources(config.data):
        made_by = getattr(DATASETS.find(source.type), "source", f"`{source.type}`")
        where = made_by
        if source.root:
            where = f"`{source.root}`"
        split = source.val if isinstance(source.val, str) else "val"
        names.append(where)
        splits.append(split)
    return TrainingRecord(
        metrics=json_safe(best["results"]),
        data=config.data.type,
        source=" and ".join(names),
        split=", ".join(dict.fromkeys(splits)),
        command=command(),
        hardware=machine,
        training_minutes=round(trainer.progress.seconds / 60, 1),
        epochs=trainer.progress.epoch,
        best_epoch=best["progress"]["epoch"],
        seed=config.seed,
        visionmtl_version=__version__,
    )
