"""Checkpoints of a run: the last state, and the best one on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from visionmtl._errors import Interrupted
from visionmtl.engine.callbacks.base import Callback, EpochSummary, Run
from visionmtl.zoo.checkpoints import save_checkpoint


class Checkpoints(Callback):
    """Saves ``last.pt`` after each epoch and evaluation, and ``best.pt`` with the best score.

    It is the last callback of a trainer: what is done before it at the same moment is in the
    checkpoint.

    Args:
        folder: where the files are; made if missing.
        every: steps between further checkpoints in an epoch; None: no further ones.
        content: plain values that every checkpoint has beside the state of the run.
    """

    def __init__(
        self,
        folder: Path,
        every: int | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self.last = folder / "last.pt"
        self.best = folder / "best.pt"
        self.every = every
        self.content = dict(content or {})
        self.best_score = math.nan

    def on_start(self, run: Run) -> None:
        # A run that is resumed in another folder has no best checkpoint there: the next evaluation
        # writes it.
        if not run.world.from_main(self.best.exists):
            self.best_score = math.nan
            run.progress.evaluated = 0

    def on_step(self, run: Run, losses: Tensor) -> None:
        due = self.every is not None and run.progress.step % self.every == 0
        if due and run.progress.batch < run.num_batches:
            self.save(run, self.last)

    def on_epoch_end(self, run: Run, epoch: EpochSummary) -> None:
        self.save(run, self.last)

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        if math.isnan(self.best_score) or score > self.best_score:
            self.best_score = score
            self.save(run, self.best, results)
        self.save(run, self.last)

    def on_interrupt(self, run: Run, interruption: Interrupted) -> None:
        self.save(run, self.last)
        interruption.add(f"saved; resume with --resume {self.last}")

    def save(self, run: Run, path: Path, results: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint; all processes take part.

        Raises:
            NonFiniteLossError: of the last step; nothing is written.
            RunError: the file cannot be written.
        """
        state = run.state_dict()
        if not run.world.is_main:
            return
        averaged = None
        if run.evaluated_model is not run.model:
            averaged = run.evaluated_model.state_dict()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            **self.content,
            **state,
            "ema": averaged,
            "model_config": run.model.config,
            "tasks": [spec.to_dict() for spec in run.tasks],
            "results": results,
        }
        save_checkpoint(path, content)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_score = state["best_score"]
