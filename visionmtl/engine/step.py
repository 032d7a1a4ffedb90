"""The gradient of one optimiser step, read top to bottom.

Every loss is divided by the counts of the whole step, over all its micro-batches and processes: the
losses of the parts add up to those of one large batch, and so do the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from visionmtl.balancing.backward import Balance
from visionmtl.balancing.partition import cut
from visionmtl.engine.step_parts import BALANCING, WEIGHTING, Step, StepParts
from visionmtl.types import Batch
from visionmtl.weighting.base import LossWeighting


def step_gradients(parts: StepParts, step: Step) -> Tensor:
    """Add the gradient of a step, and of a penalty on the sharing, to ``.grad``; its losses (T,).

    Raises:
        NonFiniteLossError: of this step or, on CUDA, the one before.
    """
    balance = parts.balance
    losses = _plain(parts, step) if balance is None else _balanced(parts, balance, step)
    learnt = [p for p in parts.weighting.parameters() if p.requires_grad]
    if learnt:
        generator = parts.generator(step.number, WEIGHTING)
        parts.weighting(losses, step.present, generator).backward(inputs=learnt)
    penalty = parts.model.sharing.penalty()
    if penalty is not None:  # of no task, and the same in all processes
        penalty.backward()  # type: ignore[no-untyped-call]
    return losses


def gradient_norm(parts: StepParts, step: Step, parameters: Sequence[Tensor]) -> Tensor:
    """The norm, a scalar, of the gradient of a step.

    Raises:
        NonFiniteLossError: it is not finite.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    parts.finite.check_gradient(norm, step.number, step.sample_ids)
    return norm


def update_weighting(parts: StepParts, step: Step, losses: Tensor) -> None:
    """Let the weighting see the losses (T,) of a step that is done.

    Raises:
        NonFiniteLossError: of the losses after the step. It is too late to skip that, but what the
            weighting would learn from it would stay.
    """
    after = None
    if parts.weighting.needs_second_forward:
        after = losses_after(parts, step)
        parts.finite.check_losses(after, step.number, step.sample_ids)
    with torch.no_grad():
        parts.weighting.after_step(losses, after, step.present)


def forward_losses(
    parts: StepParts, batch: Batch, targets: Mapping[str, Any], counts: Tensor
) -> Tensor:
    """What a micro-batch adds to the losses (T,) of the step; 0 with a graph without truth."""
    with parts.autocast():
        predictions = parts.forward(batch.images)
    losses: Tensor = parts.criterion(predictions, targets, counts)
    return losses


@torch.no_grad()
def losses_after(parts: StepParts, step: Step) -> Tensor:
    """The losses (T,) of the same step with the present parameters.

    It leaves no trace in batch norm.
    """
    buffers = [buffer.clone() for buffer in parts.model.buffers()]
    addends = []
    for batch, targets in zip(step.batches, step.targets, strict=True):
        addends.append(forward_losses(parts, batch, targets, step.counts))
    losses = torch.stack(addends).sum(0)
    parts.world.sum_([losses])
    for buffer, saved in zip(parts.model.buffers(), buffers, strict=True):
        buffer.copy_(saved)
    return losses


def loss_weights(
    weighting: LossWeighting, losses: Tensor, present: Sequence[bool], generator: torch.Generator
) -> Tensor:
    """The weights (T,) of the task gradients: derivatives of the weighted loss by the losses."""
    leaf = losses.detach().requires_grad_()
    (weights,) = torch.autograd.grad(weighting(leaf, present, generator), leaf)
    return weights


def _plain(parts: StepParts, step: Step) -> Tensor:
    """One backward pass per micro-batch.

    The weights follow from an estimate of the step's losses by the micro-batch. That is exact for
    one micro-batch, and with a weighting whose weights do not depend on the losses.
    """
    total = torch.zeros(len(step.present), device=parts.device)
    last = len(step.batches) - 1
    for i, (batch, targets) in enumerate(zip(step.batches, step.targets, strict=True)):
        with _gradient_sync(parts.network, now=i == last):
            losses = forward_losses(parts, batch, targets, step.counts)
            value = _checked(parts, losses, batch, step.number)
            generator = parts.generator(step.number, WEIGHTING)
            estimate = _estimate(value, step, i)
            parts.weights = loss_weights(parts.weighting, estimate, step.present, generator)
            # DistributedDataParallel takes the mean of the processes' gradients, not their sum.
            losses.backward(gradient=parts.weights * parts.world.size)  # type: ignore[no-untyped-call]
        total = total + value
    return total


def _balanced(parts: StepParts, balance: Balance, step: Step) -> Tensor:
    """The gradients of all tasks, balanced once those of the whole step are known."""
    gradients = balance.start(step.present, step.number - 1)
    total = torch.zeros(len(step.present), device=parts.device)
    for batch, targets in zip(step.batches, step.targets, strict=True):
        size = (batch.images.shape[-2], batch.images.shape[-1])
        with parts.autocast():
            pyramids = parts.features(batch.images)
            leaves = cut(pyramids)
            predictions = parts.predict(leaves, size)
        losses = parts.criterion(predictions, targets, step.counts)
        total = total + _checked(parts, losses, batch, step.number)
        losses.sum().backward()
        gradients.add(pyramids, leaves, [count > 0 for count in batch.annotated.values()])
        del pyramids, leaves, predictions, losses  # the graph, while the next one is made
    generator = parts.generator(step.number, WEIGHTING)
    weights = loss_weights(parts.weighting, total, step.present, generator)
    gramian = gradients.gramian()
    if gramian is not None:
        _rebalance(parts, balance, step, gramian, total, weights)
    parts.weights = balance.weights * weights
    gradients.write(parts.weights, weights)
    return total


def _rebalance(
    parts: StepParts, balance: Balance, step: Step, gramian: Tensor, losses: Tensor, weights: Tensor
) -> None:
    """Let the balancer, and a weighting that wants it, see the Gramian (R, R) of a step."""
    parts.finite.check_gramian(gramian.diagonal(), step.present, step.number, step.sample_ids)
    generator = parts.generator(step.number, BALANCING)
    try:
        balance.update(gramian, weights, step.present, generator)
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
    here = [count > 0 for count in step.annotated[index]]
    if not any(here):
        return losses
    rows = []
    for t, loss in enumerate(losses.unbind()):
        times = sum(counts[t] > 0 for counts in step.annotated)
        rows.append(loss * times)
    mean = torch.stack([row for row, known in zip(rows, here, strict=True) if known]).mean()
    for t, known in enumerate(here):
        if not known:
            rows[t] = mean
    return torch.stack(rows)


def _gradient_sync(network: nn.Module, now: bool) -> AbstractContextManager[Any]:
    """Put off the sum over the processes, if there are several, until the last micro-batch."""
    if not now and isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()
