"""The training loop."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from visionmtl.config import Config
from visionmtl.configfile import config_differences, dump_config, parse_config
from visionmtl.data.loader import make_loader
from visionmtl.engine.build import (
    build_criterion,
    build_dataset,
    build_model,
    build_transforms,
    build_weighting,
    fingerprint,
)
from visionmtl.engine.checkpoint import load_checkpoint, remove_stray_files, save_checkpoint
from visionmtl.engine.evaluator import PictureCollector, evaluate
from visionmtl.engine.errors import Interrupted, NonFiniteLossError
from visionmtl.engine.finite import FiniteCheck
from visionmtl.engine.logging import RunLogger
from visionmtl.engine.optim import make_optimizer, make_schedule, parameter_groups
from visionmtl.engine.progress import ProgressBar
from visionmtl.engine.signals import StopRequest
from visionmtl.engine.step import StepParts, backward, forward_losses
from visionmtl.metrics.multitask import validation_score
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch

RESUMABLE = ("output_dir", "logging", "data.workers", "trainer.checkpoint_every")
"""Config keys that a resumed run may change: they do not change what is computed."""


@dataclass
class RunProgress:
    """Where a run is: finished epochs, batches of the current one, optimiser steps, best validation score."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_score: float = -math.inf
    skipped: int = 0
    evaluation_due: bool = False


class Trainer:
    """Trains the run that a config describes, in ``folder``.

    Args:
        config: the run.
        folder: exists; holds checkpoints, logs and pictures afterwards.
        device: where to train.
        resume: a checkpoint of the same config to continue from, exactly.
        limit_batches: at most so many batches per epoch and evaluation, for a quick look.
        console: where progress is printed.

    Raises:
        ValueError: a config that does not fit the data, or a checkpoint of another config or data.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        device: torch.device,
        *,
        resume: Path | None = None,
        limit_batches: int | None = None,
        console: Console | None = None,
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.console = console or Console()
        options = config.trainer
        self.train_set, self.val_set = build_dataset(config, "train"), build_dataset(config, "val")
        self.tasks = self.train_set.tasks
        self.names = [spec.name for spec in self.tasks]
        transforms = build_transforms(config, self.tasks)
        shared: dict[str, Any] = {
            "seed": config.seed, "workers": config.data.workers, "pin_memory": device.type == "cuda"
        }  # fmt: skip
        self.train_loader, self.sampler = make_loader(
            self.train_set, self.tasks, transforms["train"], batch_size=options.batch_size, train=True, **shared
        )
        self.val_loader, _ = make_loader(
            self.val_set, self.tasks, transforms["val"], batch_size=options.batch_size, train=False, **shared
        )
        self.num_batches = min(len(self.sampler), limit_batches or len(self.sampler))
        self.limit_batches = limit_batches
        self.steps_per_epoch = math.ceil(self.num_batches / options.accumulate)
        self._build(config)
        self.progress = RunProgress()
        self.window = torch.zeros(len(self.names), device=device)
        self.window_counts: Counter[str] = Counter()
        self.epoch_samples: Counter[str] = Counter()
        if resume is not None:
            self._restore(resume)
        remove_stray_files(self._checkpoints())
        self.logger = RunLogger(folder, config.logging.tensorboard, self.progress.step if resume else None)

    def _build(self, config: Config) -> None:
        options = config.trainer
        torch.manual_seed(config.seed)
        self.model = build_model(config, self.tasks).to(self.device)
        if options.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weighting = build_weighting(config, self.tasks).to(self.device)
        criterion = build_criterion(config, self.tasks).to(self.device)
        groups = parameter_groups(
            self.model, config.optimizer.weight_decay, config.optimizer.backbone_lr_scale, self.weighting
        )
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = make_optimizer(groups, config.optimizer.name, config.optimizer.lr)
        self.schedule = make_schedule(
            self.optimizer,
            config.schedule.name,
            config.optimizer.lr,
            total_steps=options.epochs * self.steps_per_epoch,
            warmup_steps=round(config.schedule.warmup_epochs * self.steps_per_epoch),
            min_lr_scale=config.schedule.min_lr_scale,
        )
        self.ema = ModelEmaV3(self.model, decay=options.ema, use_warmup=True) if options.ema else None
        network = torch.compile(self.model) if options.compile else self.model
        self.parts = StepParts(network, criterion, self.weighting, self.device, options.precision == "bf16")  # type: ignore[arg-type]
        self.finite = FiniteCheck(self.names, self.device, immediate=options.nonfinite == "skip")

    @property
    def evaluated_model(self) -> MultiTaskModel:
        """The averaged weights where there are any."""
        return self.ema.module if self.ema is not None else self.model

    def fit(self) -> dict[str, Any]:
        """Train to the end; the results of the last evaluation.

        Raises:
            Interrupted: a signal came; the state is saved.
            NonFiniteLossError: a loss is NaN or infinite.
        """
        results: dict[str, Any] = {}
        options = self.config.trainer
        try:
            with StopRequest() as stop:
                while self.progress.epoch < options.epochs or self.progress.evaluation_due:
                    if not self.progress.evaluation_due:
                        self._train_epoch(stop)
                    if self.progress.evaluation_due:
                        results = self._evaluate(stop)
                    self._save("last")
        finally:
            self.logger.close()
        return results

    def _train_epoch(self, stop: StopRequest) -> None:
        progress, options = self.progress, self.config.trainer
        self.model.train()
        self.sampler.epoch, self.sampler.start = progress.epoch, progress.batch
        with ProgressBar(self.console, f"epoch {progress.epoch + 1}/{options.epochs}", self.num_batches, progress.batch) as advance:
            batches = iter(self.train_loader)
            while progress.batch < self.num_batches:
                size = min(options.accumulate, self.num_batches - progress.batch)
                self._step([next(batches).to(self.device) for _ in range(size)])
                progress.batch += size
                advance(size)
                if progress.step % self.config.logging.every == 0:
                    advance(0, self._log_losses())
                every = options.checkpoint_every
                if stop or (every and progress.step % every == 0 and progress.batch < self.num_batches):
                    self._save("last")
                    self._raise_if_stopped(stop)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.evaluation_due = progress.epoch % options.eval_every == 0 or progress.epoch == options.epochs
        annotated = {f"samples/{name}": self.epoch_samples[name] for name in self.names}
        self.logger.log("train", progress.step, progress.epoch, annotated)
        self.epoch_samples.clear()

    def _step(self, micro_batches: list[Batch]) -> None:
        """One optimiser step over one or more micro-batches."""
        options, progress = self.config.trainer, self.progress
        buffers = [b.clone() for b in self.model.buffers()] if options.nonfinite == "skip" else []
        try:
            for batch in micro_batches:
                losses = forward_losses(self.parts, batch)
                self.finite.check(losses, progress.step + 1, batch.sample_ids)
                backward(self.parts, losses, batch, len(micro_batches))
                self._count(losses.detach(), batch)
        except NonFiniteLossError as error:
            if options.nonfinite == "raise" or progress.skipped >= options.max_skipped:
                raise
            progress.skipped += 1
            self.console.print(f"[yellow]skipped ({progress.skipped} of at most {options.max_skipped}): {error}")
            for buffer, saved in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(saved)
        else:
            if options.clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, options.clip_grad)
            self.optimizer.step()
            progress.step += 1
            self.schedule.step_update(progress.step)
            if self.ema is not None:
                self.ema.update(self.model, step=progress.step)
        self.optimizer.zero_grad()

    def _count(self, losses: Tensor, batch: Batch) -> None:
        self.window += losses
        self.window_counts.update({name: int(count > 0) for name, count in batch.annotated.items()})
        self.epoch_samples.update(batch.annotated)

    def _log_losses(self) -> str:
        """Mean loss per task since the last time, over the batches that had truth for it."""
        totals = self.window.tolist()
        means = {n: t / self.window_counts[n] for n, t in zip(self.names, totals, strict=True) if self.window_counts[n]}
        values = {
            **{f"loss/{name}": value for name, value in means.items()},
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
        }
        self.logger.log("train", self.progress.step, self.progress.epoch, values)
        self.window.zero_()
        self.window_counts.clear()
        return "  ".join(f"{name} {value:.3f}" for name, value in means.items())

    def _evaluate(self, stop: StopRequest) -> dict[str, Any]:
        progress, model = self.progress, self.evaluated_model
        total = min(len(self.val_loader), self.limit_batches or len(self.val_loader))
        pictures = PictureCollector(model, self.config.logging.pictures)
        with ProgressBar(self.console, "evaluate", total) as advance:

            def on_batch(batch: Batch, predictions: dict[str, Any]) -> None:
                pictures(batch, predictions)
                advance(1)

            batches = (batch for batch, _ in zip(self.val_loader, range(total), strict=False))
            results = evaluate(model, batches, self.device, on_batch=on_batch, should_stop=lambda: bool(stop))
        if results is None:
            self._raise_if_stopped(stop, evaluation=True)
        assert results is not None
        progress.evaluation_due = False
        score = validation_score(results, self.tasks)
        self.logger.log("val", progress.step, progress.epoch, {"score": score, **results})
        self._draw(pictures)
        headline = "  ".join(_headline(spec.kind, results[spec.name]) for spec in self.tasks)
        self.console.print(f"epoch {progress.epoch}/{self.config.trainer.epochs}  score {score:.2f}  {headline}")
        if score > progress.best_score:
            progress.best_score = score
            self._save("best", results)
        return results

    def _draw(self, pictures: PictureCollector) -> None:
        from visionmtl.visualize import save_image

        if pictures.rows:
            (self.folder / "pictures").mkdir(exist_ok=True)
            sheet = pictures.sheet()
            save_image(self.folder / "pictures" / f"epoch_{self.progress.epoch:04d}.jpg", sheet)
            self.logger.picture("val/predictions", sheet, self.progress.step)

    def _raise_if_stopped(self, stop: StopRequest, evaluation: bool = False) -> None:
        if stop.signum is not None:
            if evaluation:
                self._save("last")
            path = self._checkpoints() / "last.pt"
            raise Interrupted(stop.signum, f"stopped at step {self.progress.step}, saved; resume with --resume {path}")

    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _save(self, name: str, results: dict[str, Any] | None = None) -> None:
        self.finite.flush()
        self._checkpoints().mkdir(exist_ok=True)
        state = {
            "config": dump_config(self.config),
            "model_config": self.model.config,
            "tasks": [spec.to_dict() for spec in self.tasks],
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "progress": asdict(self.progress),
            "window": self.window,
            "window_counts": dict(self.window_counts),
            "epoch_samples": dict(self.epoch_samples),
            "limit_batches": self.limit_batches,
            "data": fingerprint(self.train_set),
            "results": results,
        }
        save_checkpoint(self._checkpoints() / f"{name}.pt", state)

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path)
        differences = config_differences(parse_config(state["config"], str(path)), self.config, RESUMABLE)
        if differences:
            raise ValueError(f"{path}: made with another config; these keys differ: {'; '.join(differences)}")
        if state["data"] != fingerprint(self.train_set):
            raise ValueError(f"{path}: made with other training data (sample ids or classes differ)")
        if state["limit_batches"] != self.limit_batches:
            raise ValueError(f"{path}: made with --limit-batches {state['limit_batches']}, now {self.limit_batches}")
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        self.progress = RunProgress(**state["progress"])
        self.window = state["window"].to(self.device)
        self.window_counts = Counter(state["window_counts"])
        self.epoch_samples = Counter(state["epoch_samples"])
        self.schedule.step_update(self.progress.step)


def _headline(kind: str, values: dict[str, Any]) -> str:
    from visionmtl.metrics.multitask import METRICS

    key = METRICS[kind].headline
    return f"{kind} {key} {values[key]:.3f}"
