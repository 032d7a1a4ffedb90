"""Ending a run that gets no better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visionmtl.engine.callbacks.base import Callback, Run


class EarlyStopping(Callback):
    """Ends the run when the validation score has not risen for some evaluations.

    Args:
        patience: evaluations without a better score after which the run ends, at least 1.
        min_delta: by how much a score must exceed the best one to be better.

    Raises:
        ValueError: ``patience`` below 1.
    """

    def __init__(self, patience: int, *, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience = patience
        self.min_delta = min_delta
        self.best_score = -math.inf
        self.waited = 0

    def on_start(self, run: Run) -> None:
        run.ended = self.waited >= self.patience

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        if score > self.best_score + self.min_delta:
            self.best_score = score
            self.waited = 0
        else:
            self.waited += 1
        run.ended = self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_score = state["best_score"]
        self.waited = state["waited"]
