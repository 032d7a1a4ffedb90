"""Several callbacks as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from visionmtl._errors import Interrupted
from visionmtl.engine.callbacks.base import Callback, EpochSummary, Run
from visionmtl.types import Batch


class Callbacks(Callback):
    """Calls each of its callbacks, in their order.

    Args:
        callbacks: each of a class of its own if it has a state.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def on_start(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_start(run)

    def on_epoch_start(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_epoch_start(run)

    def on_step(self, run: Run, losses: Tensor) -> None:
        for callback in self.callbacks:
            callback.on_step(run, losses)

    def on_skip(self, run: Run, error: Exception) -> None:
        for callback in self.callbacks:
            callback.on_skip(run, error)

    def on_log(self, run: Run, split: str, values: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.on_log(run, split, values)

    def on_epoch_end(self, run: Run, epoch: EpochSummary) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(run, epoch)

    def on_evaluation_start(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_evaluation_start(run)

    def on_evaluation_batch(self, run: Run, batch: Batch, predictions: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.on_evaluation_batch(run, batch, predictions)

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        for callback in self.callbacks:
            callback.on_evaluation(run, results, score)

    def on_interrupt(self, run: Run, interruption: Interrupted) -> None:
        for callback in self.callbacks:
            callback.on_interrupt(run, interruption)

    def on_end(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_end(run)

    def state_dict(self) -> dict[str, Any]:
        """The states that are not empty, by name of the class."""
        states: dict[str, Any] = {}
        for callback in self.callbacks:
            state = callback.state_dict()
            if state:
                name = type(callback).__name__
                assert name not in states, f"two callbacks {name} have a state"
                states[name] = state
        return states

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give each callback its state; one without starts anew."""
        for callback in self.callbacks:
            own = state.get(type(callback).__name__)
            if own is not None:
                callback.load_state_dict(own)
