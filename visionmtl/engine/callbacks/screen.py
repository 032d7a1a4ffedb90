"""What a person sees of a run: progress bars, and a line per epoch and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from torch import Tensor

from visionmtl._console import ProgressBar, say
from visionmtl.engine.callbacks.base import Callback, EpochSummary, Run
from visionmtl.types import Batch


class Screen(Callback):
    """Prints how the run goes.

    Args:
        console: where to print; None: the terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar: ProgressBar | None = None
        self._open = ExitStack()
        self._done = 0

    def on_epoch_start(self, run: Run) -> None:
        self._show(_title(run, run.progress.epoch + 1), run.num_batches, run.progress.batch)

    def on_step(self, run: Run, losses: Tensor) -> None:
        assert self._bar is not None
        self._bar(run.progress.batch - self._done)
        self._done = run.progress.batch

    def on_skip(self, run: Run, error: Exception) -> None:
        count = f"{run.progress.skipped} of at most {run.options.max_skipped}"
        say(self.console, f"skipped ({count}): {error}", "yellow")

    def on_log(self, run: Run, split: str, values: Mapping[str, Any]) -> None:
        if "loss" in values:
            assert self._bar is not None
            self._bar(0, _losses(values["loss"]))

    def on_epoch_end(self, run: Run, epoch: EpochSummary) -> None:
        self._open.close()
        for task, count in epoch.samples.items():
            if count == 0:
                what = "no sample of this epoch has labels for it, it was not trained"
                say(self.console, f"task {task}: {what}", "yellow")
        speed = f"{epoch.images_per_second:.1f} images/s"
        title = _title(run, run.progress.epoch)
        say(self.console, f"{title}  train loss  {_losses(epoch.losses)}  {speed}")

    def on_evaluation_start(self, run: Run) -> None:
        self._show("evaluate", run.num_val_batches)

    def on_evaluation_batch(self, run: Run, batch: Batch, predictions: Mapping[str, Any]) -> None:
        assert self._bar is not None
        self._bar(1)

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        self._open.close()
        words = [_title(run, run.progress.epoch), f"score {score:.2f}"]
        for spec in run.tasks:
            key = spec.kind.metric.headline
            words.append(f"{spec.name} {key} {results[spec.name][key]:.3f}")
        say(self.console, "  ".join(words))

    def on_end(self, run: Run) -> None:
        self._open.close()

    def _show(self, title: str, total: int, done: int = 0) -> None:
        """Start a progress bar."""
        self._bar = self._open.enter_context(ProgressBar(self.console, title, total, done))
        self._done = done


def _title(run: Run, epoch: int) -> str:
    return f"epoch {epoch}/{run.options.epochs}"


def _losses(means: Mapping[str, float]) -> str:
    return "  ".join(f"{task} {value:.3f}" for task, value in means.items())
