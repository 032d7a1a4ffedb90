"""What changes while a run trains. With config and data it is the run: who has it can go on, bit
for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from visionmtl.config.load import config_differences, parse_config
from visionmtl.config.schema import Config, TrainerConfig
from visionmtl.engine.distributed import World
from visionmtl.engine.meter import LossMeter
from visionmtl.models.multitask import MultiTaskModel

RESUMABLE = (
    "output_dir",
    "logging",
    "data.workers",
    "trainer.checkpoint_every",
    "trainer.epochs",
    "trainer.eval_batch_size",
    "trainer.nonfinite",
    "trainer.max_skipped",
)
"""Config keys that a resumed run may change: the steps that are done would have been the same.

Another ``trainer.epochs`` moves the end of the schedule: from the resumed step on, the learning
rate is that of a run which was started with the new number.
"""


@dataclass
class RunProgress:
    """Where a run is.

    Attributes:
        epoch: finished epochs.
        batch: finished batches of the current epoch.
        step: optimiser steps.
        skipped: steps left out because a loss or the gradient was not finite.
        evaluated: epochs that were finished at the last evaluation.
        best_score: the highest validation score; nan before there is one.
        seconds: time spent in training and evaluation, over all starts of the run.
        log_sizes: bytes in the log files, so that a resumed run drops what a killed one wrote after
            its checkpoint.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    evaluated: int = 0
    best_score: float = math.nan
    seconds: float = 0.0
    log_sizes: dict[str, int] = field(default_factory=dict)

    def evaluation_due(self, options: TrainerConfig) -> bool:
        """Whether an evaluation comes before the next epoch; the last epoch always has one."""
        if self.batch > 0 or self.epoch <= self.evaluated:
            return False
        return self.epoch % options.eval_every == 0 or self.epoch >= options.epochs


@dataclass
class TrainingState:
    """The parts of a trainer that a checkpoint holds. The schedule is not among them: it follows
    from the step.
    """

    model: MultiTaskModel
    ema: ModelEmaV3 | None
    optimizer: torch.optim.Optimizer
    weighting: nn.Module
    balance: nn.Module | None
    window: LossMeter
    epoch_losses: LossMeter
    progress: RunProgress
    device: torch.device
    world: World = field(default_factory=World)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only; all processes must ask for it, the main one's is the
        run's.
        """
        cuda = self.device.type == "cuda"
        own = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
        }
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "balance": self.balance.state_dict() if self.balance is not None else None,
            "window": self.window.state_dict(),
            "epoch_losses": self.epoch_losses.state_dict(),
            "progress": asdict(self.progress),
            "random_states": self.world.gather(own),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        if self.balance is not None:
            self.balance.load_state_dict(state["balance"])
        self.window.load_state_dict(state["window"])
        self.epoch_losses.load_state_dict(state["epoch_losses"])
        self.progress = RunProgress(**state["progress"])
        own = state["random_states"][self.world.rank]
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.device)


def check_same_run(
    path: Path, saved: Mapping[str, Any], config: Config, limit_batches: int | None, processes: int
) -> None:
    """Refuse the content of the checkpoint ``path`` where a run of ``config`` is no continuation of
    it.

    Raises:
        ValueError: it is no training checkpoint, or one of another run; names what differs.
    """
    state = (
        "model",
        "ema",
        "optimizer",
        "weighting",
        "balance",
        "window",
        "epoch_losses",
        "progress",
        "random_states",
    )
    if missing := [key for key in ("config", "data", "limit_batches", *state) if key not in saved]:
        raise ValueError(
            f"{path}: no training checkpoint of this version, it lacks {', '.join(missing)}"
        )
    if differences := config_differences(
        parse_config(saved["config"], str(path)), config, RESUMABLE
    ):
        raise ValueError(
            f"{path}: made with another config; these keys differ: {'; '.join(differences)}"
        )
    if (before := len(saved["random_states"])) != processes:
        raise ValueError(
            f"{path}: made by {before} processes, now {processes}; the batches would be others"
        )
    if saved["limit_batches"] != limit_batches:
        old, new = (
            f"--limit-batches {n}" if n else "all batches"
            for n in (saved["limit_batches"], limit_batches)
        )
        raise ValueError(f"{path}: made with {old}, now {new}")
    started, epochs = (
        saved["progress"]["epoch"] + (saved["progress"]["batch"] > 0),
        config.trainer.epochs,
    )
    if epochs < started:
        raise ValueError(
            f"trainer.epochs: {path} is in epoch {started} already, cannot stop after {epochs}"
        )
