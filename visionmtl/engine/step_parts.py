"""What the gradient of a step is made of: networks, losses and methods, and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionmtl.balancing.backward import Balance
from visionmtl.engine.distributed import World
from visionmtl.engine.finite import FiniteCheck
from visionmtl.engine.parts import TrainerOptions, TrainingParts
from visionmtl.losses.criterion import Criterion
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch, Prediction, Pyramid
from visionmtl.weighting.base import LossWeighting

WEIGHTING = 0
BALANCING = 1
"""Streams of random numbers."""


class StepParts:
    """What the gradient of a step is made of; enough for a training loop of one's own::

        parts = StepParts(model, criterion, weighting)
        for number, batch in enumerate(loader, start=1):
            losses = step_gradients(parts, prepare(parts, [batch], number))
            optimizer.step()
            optimizer.zero_grad()

    Args:
        model: the network, on its device.
        criterion: predictions and targets -> losses (T,).
        weighting: losses (T,) -> scalar.
        balance: balances the gradients; None: one backward pass of the weighted losses.
        world: the processes of the run.
        bf16: whether the network runs in bfloat16.
        compile: whether the network is compiled.
        immediate: whether a loss that is not finite is found at once; on CUDA that waits for the
            device.
        seed: of the random choices of weighting and balancer.

    Attributes:
        network: ``model``, wrapped where several processes train it.
        forward: ``network``, maybe compiled.
        features: the first half of ``model``, maybe compiled; used with ``balance``.
        predict: its second half.
        finite: looks at losses and gradients.
        device: of the model.
        weights: (T,) weights of the task gradients in the last step; None before the first.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        criterion: Criterion,
        weighting: LossWeighting,
        balance: Balance | None = None,
        *,
        world: World | None = None,
        bf16: bool = False,
        compile: bool = False,
        immediate: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.weighting = weighting
        self.balance = balance
        self.world = world or World()
        self.bf16 = bf16
        self.seed = seed
        self.weights: Tensor | None = None
        self.device = next(model.parameters()).device
        tasks = [spec.name for spec in model.tasks]
        self.finite = FiniteCheck(tasks, self.device, immediate, gather=self.world.gather)

        self.network: nn.Module = model
        if balance is None:  # which sums over the processes by itself
            self.network = self.world.parallel(model, find_unused=_has_unreached(model))
        self.forward: Callable[[Tensor], dict[str, Prediction]] = self.network
        self.features: Callable[[Tensor], dict[str, Pyramid]] = model.features
        self.predict: Callable[[Mapping[str, Pyramid], tuple[int, int]], dict[str, Prediction]]
        self.predict = model.predict
        if compile:
            self.forward = torch.compile(self.network)
            self.predict = torch.compile(model.predict)
            # A compiled graph goes backward once only, and the trunk's has to do so for every task
            # in the other scope.
            if balance is None or balance.scope == "features":
                self.features = torch.compile(model.features)

    def generator(self, number: int, stream: int) -> torch.Generator:
        """Random numbers that depend on seed and step alone."""
        seed = np.random.SeedSequence([self.seed, number, stream]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]))

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the network."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


@dataclass
class Step:
    """The data of an optimiser step.

    Attributes:
        number: of the step, from 1.
        batches: its micro-batches, on the device.
        annotated: per micro-batch and task, on how many samples of all processes it is annotated.
        targets: of each micro-batch, as ``Criterion.prepare`` gives them.
        counts: what the losses divide by, over all micro-batches and processes.
    """

    number: int
    batches: list[Batch]
    annotated: list[list[int]]
    targets: list[dict[str, Any]]
    counts: Tensor

    @property
    def samples(self) -> list[int]:
        """Per task, on how many samples of the step it is annotated."""
        return [sum(of_batches) for of_batches in zip(*self.annotated, strict=True)]

    @property
    def present(self) -> list[bool]:
        """Per task, whether the step has truth for it."""
        return [count > 0 for count in self.samples]

    @property
    def sample_ids(self) -> list[str]:
        """The samples of this process."""
        return [sample_id for batch in self.batches for sample_id in batch.sample_ids]


def annotated_counts(batches: Sequence[Batch]) -> list[list[int]]:
    """Per micro-batch and task, on how many samples of this process it is annotated."""
    return [list(batch.annotated.values()) for batch in batches]


def prepare(
    parts: StepParts,
    batches: Sequence[Batch],
    number: int,
    annotated: list[list[int]] | None = None,
) -> Step:
    """Bring the micro-batches of a step to the device and count what there is to learn from.

    Args:
        parts: of the step.
        batches: its micro-batches, of this process.
        number: of the step, from 1.
        annotated: ``annotated_counts`` summed over all processes; None: they are summed here.
    """
    if annotated is None:
        annotated = parts.world.sum_table(annotated_counts(batches))
    moved = [batch.to(parts.device) for batch in batches]
    targets = [parts.criterion.prepare(batch) for batch in moved]
    counts = torch.stack([parts.criterion.counts(target) for target in targets]).sum(0)
    parts.world.sum_([counts])
    return Step(number, moved, annotated, targets, counts)


def step_parts(parts: TrainingParts, options: TrainerOptions, world: World) -> StepParts:
    """Those of a run."""
    return StepParts(
        parts.model,
        parts.criterion,
        parts.weighting,
        parts.balance,
        world=world,
        bf16=options.bf16,
        compile=options.compile,
        immediate=options.nonfinite == "skip",
        seed=options.seed,
    )


def _has_unreached(model: MultiTaskModel) -> bool:
    """Whether some trainable parameter acts on no loss."""
    reached = {id(p) for p in model.heads.parameters()}
    for spec in model.tasks:
        reached.update(id(p) for p in model.sharing.parameters_reaching(spec.name))
    return any(p.requires_grad and id(p) not in reached for p in model.parameters())
