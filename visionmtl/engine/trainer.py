"""The training loop: an epoch, its steps, an evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from visionmtl._errors import Interrupted, NonFiniteLossError
from visionmtl.engine.callbacks.base import Callback, EpochSummary
from visionmtl.engine.callbacks.several import Callbacks
from visionmtl.engine.distributed import World
from visionmtl.engine.evaluate import evaluate
from visionmtl.engine.parts import Loaders, TrainerOptions, TrainingParts
from visionmtl.engine.records import loss_record, speed_record
from visionmtl.engine.signals import StopRequest
from visionmtl.engine.snapshot import Snapshot
from visionmtl.engine.state import RunProgress, TrainingState
from visionmtl.engine.step import gradient_norm, step_gradients, update_weighting
from visionmtl.engine.step_parts import annotated_counts, prepare, step_parts
from visionmtl.metrics.score import validation_score
from visionmtl.types import Batch

CPU = torch.device("cpu")


class Trainer:
    """Trains a network; what is not training is done by callbacks.

    Several processes have a trainer each, with the same parts, options and order of callbacks.

    Args:
        parts: the network and what trains it; moved to ``device``.
        loaders: the batches.
        options: how to train.
        callbacks: called in this order at the moments of the run; one that saves is the last.
        device: where to train.
        world: the processes of the run.

    Attributes:
        evaluated_model: the network that is evaluated: ``parts.model``, or what a callback makes
            of it.
        ended: set by a callback to end the run before its last epoch.
    """

    def __init__(
        self,
        parts: TrainingParts,
        loaders: Loaders,
        options: TrainerOptions | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        device: torch.device = CPU,
        world: World | None = None,
    ) -> None:
        self.parts = parts
        self.loaders = loaders
        self.options = options or TrainerOptions()
        self.callbacks = Callbacks(callbacks)
        self.device = device
        self.world = world or World()
        for module in (parts.model, parts.criterion, parts.weighting, parts.balance):
            if module is not None:
                module.to(device)
        self.model = parts.model
        self.evaluated_model = parts.model
        self.tasks = parts.model.tasks
        self.step_parts = step_parts(parts, self.options, self.world)
        groups = parts.optimizer.param_groups
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.state = TrainingState(parts, device, self.world)
        self.stop = StopRequest(alone=self.world.size == 1)
        self.ended = False
        self._clock: float | None = None

    @property
    def progress(self) -> RunProgress:
        """Where the run is."""
        return self.state.progress

    @property
    def num_batches(self) -> int:
        """Training batches of an epoch, in this process."""
        return self.options.limited(self.loaders.train)

    @property
    def num_val_batches(self) -> int:
        """Batches of an evaluation, in this process."""
        return self.options.limited(self.loaders.val)

    def fit(self) -> dict[str, Any]:
        """Train to the end.

        Returns:
            The results of the last evaluation; empty where nothing was left to do.

        Raises:
            Interrupted: a signal came.
            NonFiniteLossError: a loss or the gradient is NaN or infinite.
        """
        results: dict[str, Any] = {}
        self._clock = time.perf_counter()
        try:
            with self.stop:
                self.world.broadcast_([*self.model.parameters(), *self.model.buffers()])
                self.callbacks.on_start(self)
                while True:
                    if self.progress.evaluation_due(self.options):
                        results = self.evaluate()
                    elif self.ended or self.progress.epoch >= self.options.epochs:
                        break
                    else:
                        self.train_epoch()
        finally:
            self._take_time()
            self._clock = None
            self.callbacks.on_end(self)
            self.loaders.close()
        return results

    def train_epoch(self) -> None:
        """Train on the next epoch, or on what is left of it.

        Raises:
            Interrupted: a signal came.
        """
        progress = self.progress
        num_batches = self.num_batches
        self.model.train()
        self.callbacks.on_epoch_start(self)
        start = time.perf_counter()
        images = 0
        batches = self.loaders.rest_of_epoch(progress.epoch, progress.batch)
        while progress.batch < num_batches:
            count = min(self.options.accumulate, num_batches - progress.batch)
            micro_batches = list(islice(batches, count))
            losses = self.train_step(micro_batches)
            progress.batch += len(micro_batches)
            images += sum(len(batch.sample_ids) for batch in micro_batches)
            if losses is not None:
                if progress.step % self.options.log_every == 0:
                    means, _ = self.state.window.take()
                    record = loss_record(self.step_parts, self.parts.optimizer, means)
                    self.callbacks.on_log(self, "train", record)
                self.callbacks.on_step(self, losses)
            self._raise_if_stopped()
        self._end_epoch(images * self.world.size / (time.perf_counter() - start))

    def train_step(self, batches: Sequence[Batch]) -> Tensor | None:
        """One optimiser step over one or more micro-batches.

        Returns:
            The losses (T,) of the step; None where it was skipped.
        """
        # One message tells how many samples of all processes are annotated, and who has to stop.
        rows = [*annotated_counts(batches), self.stop.votes()]
        *annotated, votes = self.world.sum_table(rows)
        self.stop.agree(votes)
        number = self.progress.step + 1
        snapshot = Snapshot(self.parts) if self.options.nonfinite == "skip" else None
        try:
            step = prepare(self.step_parts, batches, number, annotated)
            losses = step_gradients(self.step_parts, step)
            norm = gradient_norm(self.step_parts, step, self.parameters)
        except NonFiniteLossError as error:
            if snapshot is None:
                raise
            self._skip(error, snapshot)
            return None
        if self.options.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.clip_grad, norm)
        self.parts.optimizer.step()
        self.parts.optimizer.zero_grad()
        update_weighting(self.step_parts, step, losses)
        self.progress.step = number
        if self.parts.schedule is not None:
            self.parts.schedule.set(number)
        self.state.window.add(losses, step.samples)
        self.state.epoch_losses.add(losses, step.samples)
        return losses

    def evaluate(self) -> dict[str, Any]:
        """Results of ``evaluated_model`` on the validation batches.

        Raises:
            Interrupted: a signal came.
        """
        self.callbacks.on_evaluation_start(self)
        self.world.broadcast_(self.evaluated_model.buffers())
        results = evaluate(
            self.evaluated_model,
            islice(self.loaders.val, self.num_val_batches),
            self.device,
            on_batch=partial(self.callbacks.on_evaluation_batch, self),
            should_stop=lambda: self.stop.received is not None,
            agree=self._agree_on_stopping,
        )
        if results is None:
            self._raise_if_stopped()
        assert results is not None
        self.progress.evaluated = self.progress.epoch
        # One score for all: the sums of the processes may differ by rounding.
        score = self.world.from_main(partial(validation_score, results, self.tasks))
        self.callbacks.on_log(self, "val", {"score": score, **results})
        self.callbacks.on_evaluation(self, results, score)
        return results

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which the run goes on exactly.

        All processes must ask for it; the main one's is the run's.

        Raises:
            NonFiniteLossError: of the last step.
        """
        self.step_parts.finite.flush()
        self._take_time()
        return {**self.state.state_dict(), "callbacks": self.callbacks.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave to a trainer of equal parts and options."""
        self.state.load_state_dict(state)
        self.callbacks.load_state_dict(state["callbacks"])

    def _agree_on_stopping(self, stopped: bool) -> bool:
        """Whether any process has stopped its evaluation early."""
        self.stop.agree(self.world.sum_host(self.stop.votes()))
        return self.stop.signum is not None

    def _raise_if_stopped(self) -> None:
        if self.stop.signum is None:
            return
        interruption = Interrupted(self.stop.signum, f"stopped at step {self.progress.step}")
        self.callbacks.on_interrupt(self, interruption)
        raise interruption

    def _skip(self, error: NonFiniteLossError, snapshot: Snapshot) -> None:
        """Leave a step out as if its batches had not been seen, or give up."""
        most = self.options.max_skipped
        if self.progress.skipped >= most:
            raise NonFiniteLossError(f"{error} (trainer.max_skipped is {most})") from error
        self.progress.skipped += 1
        snapshot.restore()
        self.callbacks.on_skip(self, error)

    def _end_epoch(self, images_per_second: float) -> None:
        self.step_parts.finite.flush()
        self.progress.epoch += 1
        self.progress.batch = 0
        means, samples = self.state.epoch_losses.take()
        losses = torch.tensor([means.get(spec.name, math.nan) for spec in self.tasks])
        with torch.no_grad():
            self.parts.weighting.end_epoch(losses.to(self.device))
        self.callbacks.on_log(self, "train", {"epoch_loss": means, "samples": samples})
        # A record of its own, because no two equal runs share it.
        self.callbacks.on_log(self, "speed", speed_record(images_per_second, self.device))
        self.callbacks.on_epoch_end(self, EpochSummary(means, samples, images_per_second))

    def _take_time(self) -> None:
        """Count the time since the last call, if the run has started."""
        now = time.perf_counter()
        if self._clock is not None:
            self.progress.seconds += now - self._clock
            self._clock = now
