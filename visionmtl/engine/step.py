"""The gradient of one optimiser step, read top to bottom.

Every loss is divided by the counts of the whole step, over all its micro-batches and processes: the
losses of the parts add up to those of one large batch, and so do the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionmtl.balancing.backward import Balance
from visionmtl.balancing.partition import cut
from visionmtl.engine.distributed import World
from visionmtl.engine.finite import FiniteCheck
from visionmtl.losses import Criterion
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch, Prediction, Pyramid
from visionmtl.weighting.base import LossWeighting

WEIGHTING, BALANCING = 0, 1
"""Streams of random numbers."""


@dataclass
class StepParts:
    """What the gradient of a step needs.

    Attributes:
        model: the network.
        forward: ``model``, compiled or wrapped.
        features: its first half, maybe compiled; used with ``balance``.
        predict: its second half.
        criterion: predictions and targets -> losses (T,).
        weighting: losses -> scalar.
        balance: balances the gradients; None for one backward pass of the weighted losses.
        finite: looks at losses and gradients.
        device: of the model.
        world: the processes.
        bf16: whether the network runs in bfloat16.
        seed: of the random choices of weighting and balancer.
        weights: (T,) weights of the task gradients in the last step.
    """

    model: MultiTaskModel
    forward: Callable[[Tensor], dict[str, Prediction]]
    features: Callable[[Tensor], dict[str, Pyramid]]
    predict: Callable[[Mapping[str, Pyramid], tuple[int, int]], dict[str, Prediction]]
    criterion: Criterion
    weighting: LossWeighting
    balance: Balance | None
    finite: FiniteCheck
    device: torch.device
    world: World = field(default_factory=World)
    bf16: bool = False
    seed: int = 0
    weights: Tensor | None = None

    def generator(self, number: int, stream: int) -> torch.Generator:
        """Random numbers that depend on seed and step alone."""
        seed = np.random.SeedSequence([self.seed, number, stream]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]))

    def autocast(self) -> AbstractContextManager[Any]:
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
    def present(self) -> list[bool]:
        """Per task, whether the step has truth for it."""
        return [any(counts) for counts in zip(*self.annotated, strict=True)]

    @property
    def samples(self) -> dict[str, int]:
        """Per task, on how many samples of the step it is annotated."""
        totals = [sum(counts) for counts in zip(*self.annotated, strict=True)]
        return dict(zip(self.targets[0], totals, strict=True))


def prepare(
    parts: StepParts, batches: Sequence[Batch], annotated: list[list[int]], number: int
) -> Step:
    """Bring the micro-batches of a step to the device and count what there is to learn from."""
    moved = [batch.to(parts.device) for batch in batches]
    targets = [parts.criterion.prepare(batch) for batch in moved]
    counts = torch.stack([parts.criterion.counts(target) for target in targets]).sum(0)
    parts.world.sum_([counts])
    return Step(number, moved, annotated, targets, counts)


def step_gradients(parts: StepParts, step: Step) -> Tensor:
    """Add the gradient of a step to ``.grad``; its losses (T,).

    Raises:
        NonFiniteLossError: of this step or, on CUDA, the one before.
    """
    losses = _plain(parts, step) if parts.balance is None else _balanced(parts, parts.balance, step)
    learnt = [p for p in parts.weighting.parameters() if p.requires_grad]
    if learnt:
        generator = parts.generator(step.number, WEIGHTING)
        parts.weighting(losses, step.present, generator).backward(inputs=learnt)
    return losses


def forward_losses(
    parts: StepParts, batch: Batch, targets: Mapping[str, Any], counts: Tensor
) -> Tensor:
    """The addends (T,) that a micro-batch gives to the losses of the step; 0 with a graph without
    truth.
    """
    with parts.autocast():
        predictions = parts.forward(batch.images)
    losses: Tensor = parts.criterion(predictions, targets, counts)
    return losses


def losses_after(parts: StepParts, step: Step) -> Tensor:
    """The losses (T,) of the same step with the present parameters; leaves no trace in batch
    norm.
    """
    buffers = [buffer.clone() for buffer in parts.model.buffers()]
    with torch.no_grad():
        pairs = zip(step.batches, step.targets, strict=True)
        losses = torch.stack([forward_losses(parts, *pair, step.counts) for pair in pairs]).sum(0)
        parts.world.sum_([losses])
        for buffer, saved in zip(parts.model.buffers(), buffers, strict=True):
            buffer.copy_(saved)
    return losses


def loss_weights(
    weighting: LossWeighting, losses: Tensor, present: Sequence[bool], generator: Any
) -> Tensor:
    """The weights (T,) of the task gradients: the derivatives of the weighted loss by the
    losses.
    """
    leaf = losses.detach().requires_grad_()
    (weights,) = torch.autograd.grad(weighting(leaf, present, generator), leaf)
    return weights


def _plain(parts: StepParts, step: Step) -> Tensor:
    """One backward pass per micro-batch.

    The weights follow from an estimate of the step's losses by the micro-batch. That is exact for
    one micro-batch, and with a weighting whose weights do not depend on the losses.
    """
    total = torch.zeros(len(step.present), device=parts.device)
    for i, (batch, targets) in enumerate(zip(step.batches, step.targets, strict=True)):
        with _no_sync(parts.forward) if i < len(step.batches) - 1 else nullcontext():
            losses = forward_losses(parts, batch, targets, step.counts)
            value = _checked(parts, losses, batch, step.number)
            generator = parts.generator(step.number, WEIGHTING)
            parts.weights = loss_weights(
                parts.weighting, _estimate(value, step, i), step.present, generator
            )
            summed = (
                parts.weights * parts.world.size
            )  # of the processes' gradients DDP takes the mean
            losses.backward(gradient=summed)  # type: ignore[no-untyped-call]
        total = total + value
    return total


def _balanced(parts: StepParts, balance: Balance, step: Step) -> Tensor:
    """The gradients of all tasks, balanced once the losses and the gradients of the whole step are
    known.
    """
    gradients = balance.start(step.present, step.number - 1)
    total = torch.zeros(len(step.present), device=parts.device)
    for batch, targets in zip(step.batches, step.targets, strict=True):
        with parts.autocast():
            pyramids = parts.features(batch.images)
            leaves = cut(pyramids)
            predictions = parts.predict(leaves, (batch.images.shape[-2], batch.images.shape[-1]))
        losses = parts.criterion(predictions, targets, step.counts)
        total = total + _checked(parts, losses, batch, step.number)
        losses.sum().backward()
        gradients.add(pyramids, leaves, [count > 0 for count in batch.annotated.values()])
        del pyramids, leaves, predictions, losses  # the graph, while the next one is made
    weights = loss_weights(
        parts.weighting, total, step.present, parts.generator(step.number, WEIGHTING)
    )
    gramian = gradients.gramian()
    if gramian is not None:
        _rebalance(parts, balance, step, gramian, total, weights)
    parts.weights = balance.weights * weights
    gradients.write(parts.weights, weights)
    return total


def _rebalance(
    parts: StepParts, balance: Balance, step: Step, gramian: Tensor, losses: Tensor, weights: Tensor
) -> None:
    samples = [name for batch in step.batches for name in batch.sample_ids]
    parts.finite.check_gramian(gramian.diagonal(), step.present, step.number, samples)
    try:
        balance.update(gramian, weights, step.present, parts.generator(step.number, BALANCING))
    except RuntimeError:
        parts.finite.flush()  # says it better where the gradients were not finite
        raise
    if parts.weighting.needs_gramian:
        with torch.no_grad():
            parts.weighting.observe_gramian(gramian, losses, step.present)


def _checked(parts: StepParts, losses: Tensor, batch: Batch, number: int) -> Tensor:
    """The losses (T,) of a micro-batch over all processes, without graph."""
    value = losses.detach()
    if parts.world.size > 1:
        value = value.clone()
        parts.world.sum_([value])
    parts.finite.check_losses(value, number, batch.sample_ids)
    return value


def _estimate(losses: Tensor, step: Step, index: int) -> Tensor:
    """The losses (T,) of the step, guessed from those of one micro-batch.

    A task without truth in the micro-batch takes the mean of the others: a 0 would rule the methods
    with logarithms.
    """
    if len(step.batches) == 1:
        return losses
    times = [sum(count > 0 for count in counts) for counts in zip(*step.annotated, strict=True)]
    rows = [loss * n for loss, n in zip(losses.unbind(), times, strict=True)]
    known = [row for row, count in zip(rows, step.annotated[index], strict=True) if count]
    if not known:
        return losses
    mean = torch.stack(known).mean()
    return torch.stack(
        [row if count else mean for row, count in zip(rows, step.annotated[index], strict=True)]
    )


def _no_sync(forward: Any) -> AbstractContextManager[Any]:
    """Put off the sum over the processes, if there are several."""
    network = getattr(forward, "_orig_mod", forward)  # of a compiled one
    return (
        network.no_sync()
        if isinstance(network, nn.parallel.DistributedDataParallel)
        else nullcontext()
    )
