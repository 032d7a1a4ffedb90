"""What changes while a run trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from visionmtl.engine.distributed import World
from visionmtl.engine.meter import LossMeter
from visionmtl.engine.parts import TrainerOptions, TrainingParts


@dataclass
class RunProgress:
    """Where a run is.

    Attributes:
        epoch: finished epochs.
        batch: finished batches of the current epoch.
        step: optimiser steps.
        skipped: steps left out because a loss or the gradient was not finite.
        evaluated: epochs that were finished at the last evaluation.
        seconds: time spent in training and evaluation, over all starts of the run.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    evaluated: int = 0
    seconds: float = 0.0

    def evaluation_due(self, options: TrainerOptions) -> bool:
        """Whether an evaluation comes before the next epoch; the last epoch always has one."""
        if self.batch > 0 or self.epoch <= self.evaluated:
            return False
        return self.epoch % options.eval_every == 0 or self.epoch >= options.epochs


class TrainingState:
    """What changes while a run trains; restoring it resumes a run exactly.

    The schedule is not in it: it follows from the step.

    Args:
        parts: the network and what trains it.
        device: of the network.
        world: the processes of the run.

    Attributes:
        progress: where the run is.
        window: losses since the last record of them.
        epoch_losses: losses of the current epoch.
    """

    def __init__(self, parts: TrainingParts, device: torch.device, world: World) -> None:
        tasks = [spec.name for spec in parts.model.tasks]
        self.parts = parts
        self.device = device
        self.world = world
        self.progress = RunProgress()
        self.window = LossMeter(tasks, device)
        self.epoch_losses = LossMeter(tasks, device)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only; all processes must ask for it."""
        parts = self.parts
        balance = None
        if parts.balance is not None:
            balance = parts.balance.state_dict()
        random_state = {"cpu": torch.get_rng_state(), "cuda": None}
        if self.device.type == "cuda":
            random_state["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": parts.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "weighting": parts.weighting.state_dict(),
            "balance": balance,
            "window": self.window.state_dict(),
            "epoch_losses": self.epoch_losses.state_dict(),
            "progress": asdict(self.progress),
            "random_states": self.world.gather(random_state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        parts = self.parts
        parts.model.load_state_dict(state["model"])
        parts.optimizer.load_state_dict(state["optimizer"])
        parts.weighting.load_state_dict(state["weighting"])
        if parts.balance is not None:
            parts.balance.load_state_dict(state["balance"])
        self.window.load_state_dict(state["window"])
        self.epoch_losses.load_state_dict(state["epoch_losses"])
        self.progress = RunProgress(**state["progress"])
        if parts.schedule is not None:
            parts.schedule.set(self.progress.step)
        random_state = state["random_states"][self.world.rank]
        torch.set_rng_state(random_state["cpu"])
        if random_state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(random_state["cuda"], self.device)
