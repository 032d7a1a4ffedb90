"""The training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timm.utils.model_ema import ModelEmaV3
from torch.utils.data import DataLoader

from visionmtl._console import ProgressBar, say
from visionmtl._errors import Interrupted, NonFiniteLossError
from visionmtl.config.load import dump_config
from visionmtl.config.schema import Config
from visionmtl.data.loader import close_loader, make_loader
from visionmtl.engine.build import (
    build_model,
    build_parameter_groups,
    build_parts,
)
from visionmtl.engine.datasets import build_splits, build_transforms, data_notes, fingerprint
from visionmtl.engine.distributed import World
from visionmtl.engine.evaluate import PictureCollector, evaluate
from visionmtl.engine.init_from import init_from
from visionmtl.engine.logging import RunLogger, SilentLogger
from visionmtl.engine.meter import LossMeter
from visionmtl.engine.optim import Schedule, make_optimizer
from visionmtl.engine.report import gradient_record, headline, losses_text
from visionmtl.engine.signals import StopRequest
from visionmtl.engine.state import RunProgress, TrainingState, check_same_run
from visionmtl.engine.step import losses_after, prepare, step_gradients
from visionmtl.metrics.multitask import validation_score
from visionmtl.models.backbone.pretrained import one_line
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch
from visionmtl.zoo.checkpoints import load_checkpoint, remove_stray_files, save_checkpoint


class Trainer:
    """Trains the run that a config describes, in ``folder``.

    Several processes have a trainer each and the same config; the main one writes the files.

    Args:
        config: the run.
        folder: exists; holds checkpoints, logs and pictures afterwards.
        device: where to train.
        resume: a checkpoint of the same config to continue from, exactly.
        limit_batches: at most so many batches per epoch and evaluation, for a quick look.
        console: where progress is printed.
        world: the processes of the run.

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
        world: World | None = None,
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.console, self.world = console or Console(), world or World()
        self.checkpoints = folder / "checkpoints"
        self.limit_batches = limit_batches
        saved = load_checkpoint(resume) if resume else {}
        if resume:  # first of all: a changed config may fit neither data nor model
            check_same_run(resume, saved, config, limit_batches, self.world.size)
        self._open_data(limit_batches)
        self._build(resumed=resume is not None)
        if resume:
            self._restore(resume, saved)
        self.world.broadcast_([*self.model.parameters(), *self.model.buffers()])
        self.logger = self._open_folder(resumed=resume is not None)

    def _open_folder(self, resumed: bool) -> RunLogger:
        if not self.world.is_main:
            return SilentLogger()
        remove_stray_files(self.folder, self.checkpoints, self.folder / "model")
        progress, tensorboard = self.progress, self.config.logging.tensorboard
        return RunLogger(
            self.folder, tensorboard, progress.step if resumed else None, progress.log_sizes
        )

    def _open_data(self, limit_batches: int | None) -> None:
        config, options = self.config, self.config.trainer
        self.train_set, self.val_set = build_splits(config)
        self.tasks = self.train_set.tasks
        self.fingerprint = fingerprint(self.train_set)
        for note in data_notes(config, self.train_set, self.val_set):
            say(self.console, note, "yellow")
        transforms = build_transforms(config, self.tasks)
        shared: dict[str, Any] = {
            "seed": config.seed,
            "workers": config.data.workers,
            "pin_memory": self.device.type == "cuda",
            "rank": self.world.rank,
            "processes": self.world.size,
        }
        self.train_loader, self.sampler = make_loader(
            self.train_set,
            self.tasks,
            transforms["train"],
            batch_size=options.batch_size,
            train=True,
            **shared,
        )
        eval_size = options.eval_batch_size or options.batch_size
        self.val_loader, _ = make_loader(
            self.val_set, self.tasks, transforms["val"], batch_size=eval_size, train=False, **shared
        )
        self.num_batches = min(len(self.train_loader), limit_batches or len(self.train_loader))
        self.num_val_batches = min(len(self.val_loader), limit_batches or len(self.val_loader))

    def _build(self, resumed: bool) -> None:
        config, options, names = (
            self.config,
            self.config.trainer,
            [spec.name for spec in self.tasks],
        )
        torch.manual_seed(
            config.seed + self.world.rank
        )  # of dropout: samples of other processes need other masks
        model = build_model(config, self.tasks)
        if config.model.init_from and not resumed:
            init_from(model, config.model.init_from)
        model = model.to(self.device)
        if options.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.parts = build_parts(config, model, self.device, self.world)
        weighting, balance = self.parts.weighting, self.parts.balance
        groups = build_parameter_groups(config, model, weighting)
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = make_optimizer(groups, config.optimizer.name, config.optimizer.lr)
        steps_per_epoch = math.ceil(self.num_batches / options.accumulate)
        self.schedule = Schedule(
            self.optimizer,
            config.schedule.name,
            config.optimizer.lr,
            total_steps=options.epochs * steps_per_epoch,
            warmup_steps=round(config.schedule.warmup_epochs * steps_per_epoch),
            min_lr_scale=config.schedule.min_lr_scale,
        )
        self.model: MultiTaskModel = model
        self.ema = ModelEmaV3(model, decay=options.ema, use_warmup=True) if options.ema else None
        self.window, self.epoch_losses = (
            LossMeter(names, self.device),
            LossMeter(names, self.device),
        )
        meters = self.window, self.epoch_losses
        self.state = TrainingState(
            model,
            self.ema,
            self.optimizer,
            weighting,
            balance,
            *meters,
            RunProgress(),
            self.device,
            self.world,
        )

    @property
    def progress(self) -> RunProgress:
        """Where the run is."""
        return self.state.progress

    @property
    def evaluated_model(self) -> MultiTaskModel:
        """The averaged weights where there are any."""
        return self.ema.module if self.ema is not None else self.model

    def fit(self) -> dict[str, Any]:
        """Train to the end; the results of the last evaluation, empty where nothing was left to do.

        Raises:
            Interrupted: a signal came; the state is saved.
            NonFiniteLossError: a loss or the gradient is NaN or infinite.
            RunError: a file cannot be written.
        """
        results: dict[str, Any] = {}
        options = self.config.trainer
        self._clock = time.perf_counter()
        try:
            with StopRequest(alone=self.world.size == 1) as stop:
                while (
                    due := self.progress.evaluation_due(options)
                ) or self.progress.epoch < options.epochs:
                    if due:
                        results = self._evaluate(stop)
                    else:
                        self.train_epoch(self.train_loader, stop)
                    self._save("last")
        finally:
            self.logger.close()
            close_loader(self.train_loader)
            close_loader(self.val_loader)
        return results

    def train_epoch(self, batches: Sequence[Batch] | DataLoader[Batch], stop: StopRequest) -> None:
        """Train on the next epoch, or on what is left of it.

        Args:
            batches: has the length of the whole epoch and gives what is not yet trained.
            stop: polled after each step.

        Raises:
            Interrupted: a signal came; the state is saved.
        """
        progress, options, every = self.progress, self.config.trainer, self.config.logging.every
        title = f"epoch {progress.epoch + 1}/{options.epochs}"
        num_batches = min(len(batches), self.limit_batches or len(batches))
        self.model.train()
        self.sampler.epoch, self.sampler.start = progress.epoch, progress.batch
        start, images = time.perf_counter(), 0
        with ProgressBar(self.console, title, num_batches, progress.batch) as advance:
            remaining = iter(batches)
            while progress.batch < num_batches:
                micro_batches = list(
                    islice(remaining, min(options.accumulate, num_batches - progress.batch))
                )
                stepped = self._step(micro_batches, self._annotated(micro_batches, stop))
                progress.batch += len(micro_batches)
                images += sum(len(batch.sample_ids) for batch in micro_batches)
                advance(len(micro_batches))
                if stepped and progress.step % every == 0:
                    advance(0, self._log_window())
                if stop or (stepped and self._checkpoint_due() and progress.batch < num_batches):
                    self._save("last")
                    self._raise_if_stopped(stop)
        self._end_epoch(title, images * self.world.size / (time.perf_counter() - start))

    def _annotated(self, micro_batches: list[Batch], stop: StopRequest) -> list[list[int]]:
        """Samples of all processes with truth, per micro-batch and task; the same message agrees on
        stopping.
        """
        counts = [count for batch in micro_batches for count in batch.annotated.values()]
        sums = self.world.sum_host([*counts, *stop.votes()])
        stop.agree(sums[len(counts) :])
        width = len(self.tasks)
        return [sums[i : i + width] for i in range(0, len(counts), width)]

    def _checkpoint_due(self) -> bool:
        every = self.config.trainer.checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _end_epoch(self, title: str, images_per_second: float) -> None:
        """Log the epoch: losses as split ``train``, and ``speed`` apart, because no two equal runs
        share it.
        """
        progress = self.progress
        self.parts.finite.flush()
        progress.epoch, progress.batch = progress.epoch + 1, 0
        means, samples = self.epoch_losses.take()
        with torch.no_grad():
            values = [means.get(spec.name, math.nan) for spec in self.tasks]
            self.parts.weighting.end_epoch(torch.tensor(values, device=self.device))
        for task in [name for name, count in samples.items() if count == 0]:
            say(
                self.console,
                f"task {task}: no sample of this epoch has labels for it, it was not trained",
                "yellow",
            )
        self.logger.log(
            "train", progress.step, progress.epoch, {"epoch_loss": means, "samples": samples}
        )
        speed = {"images_per_second": round(images_per_second, 2)}
        if self.device.type == "cuda":
            speed["peak_memory_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)
        self.logger.log("speed", progress.step, progress.epoch, speed)
        say(
            self.console,
            f"{title}  train loss  {losses_text(means)}  {images_per_second:.1f} images/s",
        )

    def _step(self, micro_batches: list[Batch], annotated: list[list[int]]) -> bool:
        """One optimiser step over one or more micro-batches; False where it was skipped."""
        options, parts, number = self.config.trainer, self.parts, self.progress.step + 1
        samples = [name for batch in micro_batches for name in batch.sample_ids]
        saved = self._snapshot() if options.nonfinite == "skip" else {}
        try:
            step = prepare(parts, micro_batches, annotated, number)
            losses = step_gradients(parts, step)
            penalty = self.model.sharing.penalty()
            if penalty is not None:  # of no task, and the same in all processes
                penalty.backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            parts.finite.check_gradient(norm, number, samples)
        except NonFiniteLossError as error:
            self._skip(error, saved)
            return False
        if options.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, options.clip_grad, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        after = losses_after(parts, step) if parts.weighting.needs_second_forward else None
        if (
            after is not None
        ):  # too late to skip the step; what the weighting learns from it would stay
            parts.finite.check_losses(after, number, samples)
        with torch.no_grad():
            parts.weighting.after_step(losses, after, step.present)
        self.progress.step = number
        self.schedule.set(number)
        if self.ema is not None:
            self.ema.update(self.model, step=number)
        for meter in (self.window, self.epoch_losses):
            meter.add(losses, step.samples)
        return True

    def _snapshot(self) -> dict[str, Any]:
        """What a step changes before its gradient is known to be finite."""
        states = {"weighting": self.parts.weighting, "balance": self.parts.balance}
        kept = {
            name: copy.deepcopy(part.state_dict())
            for name, part in states.items()
            if part is not None
        }
        return {"buffers": [buffer.clone() for buffer in self.model.buffers()], **kept}

    def _skip(self, error: NonFiniteLossError, saved: dict[str, Any]) -> None:
        """Leave a step out as if its batches had not been seen, or give up."""
        options, progress = self.config.trainer, self.progress
        if options.nonfinite == "raise":
            raise error
        if progress.skipped >= options.max_skipped:
            raise NonFiniteLossError(
                f"{error} (trainer.max_skipped is {options.max_skipped})"
            ) from error
        progress.skipped += 1
        say(
            self.console,
            f"skipped ({progress.skipped} of at most {options.max_skipped}): {error}",
            "yellow",
        )
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), saved["buffers"], strict=True):
                buffer.copy_(before)
        self.parts.weighting.load_state_dict(saved["weighting"])
        if self.parts.balance is not None:
            self.parts.balance.load_state_dict(saved["balance"])
        self.optimizer.zero_grad()

    def _log_window(self) -> str:
        """Log the mean losses since the last time."""
        means, _ = self.window.take()
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        record: dict[str, Any] = {"loss": means, "lr": rate}
        with torch.no_grad():
            penalty = self.model.sharing.penalty()
        if penalty is not None:
            record["penalty"] = float(penalty)
        if self.parts.balance is not None or self.config.weighting.type != "constant":
            record |= gradient_record(self.parts, [spec.name for spec in self.tasks])
        self.logger.log("train", self.progress.step, self.progress.epoch, record)
        return losses_text(means)

    def _evaluate(self, stop: StopRequest) -> dict[str, Any]:
        progress, model = self.progress, self.evaluated_model
        pictures = PictureCollector(
            model, self.config.logging.pictures if self.world.is_main else 0, self.val_set
        )
        self.world.broadcast_(model.buffers())
        with ProgressBar(self.console, "evaluate", self.num_val_batches) as advance:

            def on_batch(batch: Batch, predictions: dict[str, Any]) -> None:
                pictures(batch, predictions)
                advance(1)

            def agree(stopped: bool) -> bool:
                stop.agree(self.world.sum_host(stop.votes()))
                return bool(stop)

            results = evaluate(
                model,
                islice(self.val_loader, self.num_val_batches),
                self.device,
                on_batch=on_batch,
                should_stop=lambda: stop.received is not None,
                agree=agree,
            )
        if results is None:
            self._save("last")
            self._raise_if_stopped(stop)
        assert results is not None
        progress.evaluated = progress.epoch
        score = validation_score(results, self.tasks)
        self.logger.log("val", progress.step, progress.epoch, {"score": score, **results})
        self._draw(pictures)
        headlines = "  ".join(headline(spec, results[spec.name]) for spec in self.tasks)
        say(
            self.console,
            f"epoch {progress.epoch}/{self.config.trainer.epochs}  score {score:.2f}  {headlines}",
        )
        # One decision for all, as all take part in saving: sums may differ by rounding.
        if self.world.from_main(
            lambda: math.isnan(progress.best_score) or score > progress.best_score
        ):
            progress.best_score = score
            self._save("best", results)
        return results

    def _draw(self, pictures: PictureCollector) -> None:
        from visionmtl.tasks.drawing import save_image

        if pictures.rows:
            (self.folder / "pictures").mkdir(exist_ok=True)
            sheet = pictures.sheet()
            save_image(self.folder / "pictures" / f"epoch_{self.progress.epoch:04d}.jpg", sheet)
            self.logger.picture("val/predictions", sheet, self.progress.step)

    def _raise_if_stopped(self, stop: StopRequest) -> None:
        if stop.signum is not None:
            path = self.checkpoints / "last.pt"
            raise Interrupted(
                stop.signum,
                f"stopped at step {self.progress.step}, saved; resume with --resume {path}",
            )

    def _save(self, name: str, results: dict[str, Any] | None = None) -> None:
        self.parts.finite.flush()
        now = time.perf_counter()
        self.progress.seconds, self._clock = self.progress.seconds + now - self._clock, now
        self.progress.log_sizes = self.logger.sizes()
        content = {
            "config": dump_config(self.config),
            "data": self.fingerprint,
            "limit_batches": self.limit_batches,
            **self.state.state_dict(),
            "model_config": self.model.config,
            "tasks": [spec.to_dict() for spec in self.tasks],
            "results": results,
        }
        if self.world.is_main:
            self.checkpoints.mkdir(exist_ok=True)
            save_checkpoint(self.checkpoints / f"{name}.pt", content)

    def _restore(self, path: Path, saved: dict[str, Any]) -> None:
        if saved["data"] != self.fingerprint:
            raise ValueError(
                f"{path}: made with other training data (sample ids or classes differ)"
            )
        try:
            self.state.load_state_dict(saved)
        except (
            RuntimeError,
            ValueError,
            TypeError,
            KeyError,
        ) as error:  # another timm may build another network
            raise ValueError(
                f"{path}: does not fit this run, made with other versions? {one_line(error)}"
            ) from error
        self.schedule.set(self.progress.step)
        # Resumed in another folder, there is none: the next evaluation writes it.
        if not self.world.from_main((self.checkpoints / "best.pt").exists):
            self.progress.best_score, self.progress.evaluated = math.nan, 0
