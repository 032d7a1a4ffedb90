"""The trainer's loop against a bare one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3

from visionmtl.analysis.benchmark.bench import WARM_UP, Bench, medians, rates, ratios
from visionmtl.engine.build import (
    build_criterion,
    build_model,
    build_parameter_groups,
    build_weighting,
)
from visionmtl.engine.optim import make_optimizer
from visionmtl.engine.parts import Loaders
from visionmtl.types import Batch

BLOCK_SECONDS = 2.0
"""Training is timed in blocks of steps of about this length."""
MOST_STEPS = 500


class BareLoop:
    """The trainer's arithmetic as one would write it by hand: no checks, schedule, sums, logs and
    progress bar.
    """

    def __init__(self, bench: Bench) -> None:
        config = bench.config
        device = bench.device
        self.options = config.trainer
        self.device = device
        self.model = bench.place(build_model(config, bench.tasks))
        self.network: Callable[..., Any] = self.model
        if self.options.compile:
            self.network = torch.compile(self.model)
        self.criterion = build_criterion(config, bench.tasks).to(device)
        self.weighting = build_weighting(config, bench.tasks).to(device)
        optimizer = config.optimizer
        groups = build_parameter_groups(config, self.model, self.weighting)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = make_optimizer(groups, optimizer.name, optimizer.lr)
        self.ema = None
        if self.options.ema:
            self.ema = ModelEmaV3(self.model, decay=self.options.ema, use_warmup=True)
        self.step = 0

    def __call__(self, batches: Sequence[Batch]) -> None:
        self.model.train()
        for start in range(0, len(batches), self.options.accumulate):
            stop = start + self.options.accumulate
            group = [batch.to(self.device) for batch in batches[start:stop]]
            targets = [self.criterion.prepare(batch) for batch in group]
            counts = torch.stack([self.criterion.counts(target) for target in targets]).sum(0)
            for batch, target in zip(group, targets, strict=True):
                self._loss(batch, target, counts).backward()  # type: ignore[no-untyped-call]
            if self.options.clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip_grad)
            self.optimizer.step()
            self.step += 1
            if self.ema is not None:
                self.ema.update(self.model, step=self.step)
            self.optimizer.zero_grad()

    def _loss(self, batch: Batch, targets: dict[str, Any], counts: torch.Tensor) -> torch.Tensor:
        bf16 = self.options.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            predictions = self.network(batch.images)
        losses = self.criterion(predictions, targets, counts)
        present = [count > 0 for count in batch.annotated.values()]
        loss: torch.Tensor = self.weighting(losses, present)
        return loss


def trainer_loop(bench: Bench) -> Callable[[Sequence[Batch]], None]:
    """A function that trains one epoch of the given batches with the framework's trainer."""
    trainer = bench.trainer

    def train(batches: Sequence[Batch]) -> None:
        trainer.loaders = Loaders(batches, trainer.loaders.val)
        trainer.train_epoch()

    return train


def repeated(bench: Bench, steps: int) -> list[Batch]:
    """The batches of so many optimiser steps."""
    return list(islice(cycle(bench.train_batches), steps * bench.config.trainer.accumulate))


def measure_train_step(bench: Bench) -> dict[str, Any]:
    """Images per second of the trainer's loop and of the bare one, on equal networks and the same
    batches in memory.
    """
    warm_up = repeated(bench, WARM_UP)  # before trainer_loop takes the loader away
    loops: dict[str, Callable[[Sequence[Batch]], None]] = {
        "framework": trainer_loop(bench),
        "bare": BareLoop(bench),
    }
    for loop in loops.values():
        loop(warm_up)
    step_seconds = bench.seconds(partial(loops["bare"], warm_up)) / WARM_UP
    steps = min(math.ceil(BLOCK_SECONDS / step_seconds), MOST_STEPS)
    batches = repeated(bench, steps)
    images = sum(len(batch.images) for batch in batches)
    works = {name: partial(loop, batches) for name, loop in loops.items()}
    times = bench.in_turn(works, warm_up=0)
    results = {
        "framework": rates(images, times["framework"]),
        "bare": rates(images, times["bare"]),
        "ratio": ratios(times["bare"], times["framework"]),
    }
    return {
        "steps_per_block": steps,
        "batch_size": bench.config.trainer.batch_size,
        **medians(results),
    }
