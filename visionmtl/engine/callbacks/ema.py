"""Averaged weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from visionmtl.engine.callbacks.base import Callback, Run
from visionmtl.models.multitask import MultiTaskModel


class EMA(Callback):
    """Exponential moving average of the weights, which is what the run evaluates and saves.

    The decay grows to its value over the first steps, see ``timm.utils.ModelEmaV3``.

    Args:
        model: the network that is trained.
        decay: weight of the average before a step, in (0, 1).
    """

    def __init__(self, model: MultiTaskModel, decay: float) -> None:
        self._average = ModelEmaV3(model, decay=decay, use_warmup=True)

    def on_start(self, run: Run) -> None:
        run.evaluated_model = self._average.module.to(run.device)

    def on_step(self, run: Run, losses: Tensor) -> None:
        self._average.update(run.model, step=run.progress.step)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self._average.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average.module.load_state_dict(state["model"])
