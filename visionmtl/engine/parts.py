"""What a trainer is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch.utils.data import DataLoader

from visionmtl._options import Count, Positive, Seed, checking
from visionmtl.balancing.backward import Balance
from visionmtl.data.loader import close_loader
from visionmtl.engine.optim import Schedule
from visionmtl.losses.criterion import Criterion
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch
from visionmtl.weighting.base import LossWeighting


@dataclass
class TrainingParts:
    """The network and what trains it.

    Attributes:
        model: the network.
        criterion: predictions and targets -> losses (T,), in the task order of the network.
        optimizer: has the parameters of the network, and those of the weighting if it has any.
        weighting: losses (T,) -> scalar.
        balance: balances the gradients of the tasks; None: one backward pass of the weighted
            losses.
        schedule: sets the learning rate after each step; None: it stays as it is.
    """

    model: MultiTaskModel
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    weighting: LossWeighting
    balance: Balance | None = None
    schedule: Schedule | None = None


class Batches(Sized, Iterable[Batch], Protocol):
    """Batches whose number is known: a ``DataLoader`` or a list."""


class ResumableSampler(Protocol):
    """What draws the batches of a loader, and can start in the middle of an epoch.

    Attributes:
        epoch: the epoch to draw, from 0.
        start: how many of its batches to leave out.
    """

    epoch: int
    start: int


@dataclass
class Loaders:
    """The batches of a run.

    Attributes:
        train: of training; one iteration is an epoch.
        val: of validation.
        sampler: draws ``train``; ``make_loader`` gives one. Without it the batches that a resumed
            epoch has seen are loaded and dropped, and the epochs are as ``train`` orders them.
    """

    train: Batches
    val: Batches
    sampler: ResumableSampler | None = None

    def rest_of_epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The training batches of an epoch but for the first ``start``."""
        if self.sampler is None:
            return islice(self.train, start, None)
        self.sampler.epoch = epoch
        self.sampler.start = start
        return iter(self.train)

    def close(self) -> None:
        """End the loader processes; the loaders may be used again."""
        for loader in (self.train, self.val):
            if isinstance(loader, DataLoader):
                close_loader(loader)


@checking
@dataclass(frozen=True)
class TrainerOptions:
    """How to train, in plain values.

    Attributes:
        epochs: how often the training data is seen.
        accumulate: micro-batches per step; the last step of an epoch may have fewer.
        clip_grad: largest gradient norm; None: no clipping.
        eval_every: epochs between evaluations; there is always one after the last epoch.
        log_every: steps between records of the losses.
        nonfinite: what a NaN or infinite loss does: ``raise`` ends the run, ``skip`` leaves the
            step out.
        max_skipped: skipped steps after which a run ends.
        bf16: whether the network runs in bfloat16.
        compile: whether the network is compiled by ``torch.compile``.
        limit_batches: at most so many batches per epoch and evaluation; None: all.
        seed: of the random choices of weighting and balancer.

    Raises:
        ValueError: a value of another type or outside its range.
    """

    epochs: Count = 10
    accumulate: Count = 1
    clip_grad: Positive | None = 5.0
    eval_every: Count = 1
    log_every: Count = 20
    nonfinite: Literal["raise", "skip"] = "raise"
    max_skipped: Annotated[int, Field(ge=0)] = 10
    bf16: bool = False
    compile: bool = False
    limit_batches: Count | None = None
    seed: Seed = 0

    def limited(self, batches: Batches) -> int:
        """How many of the batches are used."""
        if self.limit_batches is None:
            return len(batches)
        return min(len(batches), self.limit_batches)
