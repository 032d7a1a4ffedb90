"""The moments of a run at which something beside the training can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from visionmtl._errors import Interrupted
from visionmtl.engine.distributed import World
from visionmtl.engine.parts import Loaders, TrainerOptions, TrainingParts
from visionmtl.engine.state import RunProgress
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch, TaskSpec


class Run(Protocol):
    """What a callback sees of the trainer.

    Attributes:
        model: the network that is trained.
        evaluated_model: the network that is evaluated and saved as the result; a callback may put
            another one here.
        ended: a callback sets it to end the run before its last epoch.
        num_batches: of an epoch, in this process.
        num_val_batches: of an evaluation, in this process.
    """

    parts: TrainingParts
    loaders: Loaders
    options: TrainerOptions
    device: torch.device
    world: World
    model: MultiTaskModel
    evaluated_model: MultiTaskModel
    tasks: list[TaskSpec]
    ended: bool

    @property
    def progress(self) -> RunProgress: ...

    @property
    def num_batches(self) -> int: ...

    @property
    def num_val_batches(self) -> int: ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which the run goes on exactly.

        All processes must ask for it; the main one's is the run's.
        """


@dataclass(frozen=True)
class EpochSummary:
    """How an epoch went.

    Attributes:
        losses: mean loss per task, over the steps that had truth for it; a task without is missing.
        samples: per task, on how many samples it was annotated.
        images_per_second: of all processes together.
    """

    losses: dict[str, float]
    samples: dict[str, int]
    images_per_second: float


class Callback:
    """Does something at some of these moments; a trainer calls its callbacks in their order.

    Several processes have the same moments. What a callback must remember over a resume it gives in
    ``state_dict``; the main process's is in the checkpoint, under the name of the class.
    """

    def on_start(self, run: Run) -> None:
        """Before the first epoch of this start, after the state of a resumed run is restored."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first step of an epoch, or of what is left of it."""

    def on_step(self, run: Run, losses: Tensor) -> None:
        """After an optimiser step with these losses (T,), which are on the device."""

    def on_skip(self, run: Run, error: Exception) -> None:
        """After a step that was left out."""

    def on_log(self, run: Run, split: str, values: Mapping[str, Any]) -> None:
        """With each record: ``train`` every few steps and each epoch, ``speed``, ``val``."""

    def on_epoch_end(self, run: Run, epoch: EpochSummary) -> None:
        """After the last step of an epoch."""

    def on_evaluation_start(self, run: Run) -> None:
        """Before the first batch of an evaluation."""

    def on_evaluation_batch(self, run: Run, batch: Batch, predictions: Mapping[str, Any]) -> None:
        """After each batch of an evaluation."""

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        """After an evaluation; ``score`` is that of ``validation_score``, nan without truth."""

    def on_interrupt(self, run: Run, interruption: Interrupted) -> None:
        """After the last step of a run that is asked to stop."""

    def on_end(self, run: Run) -> None:
        """At the end of ``fit``, also after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
