"""One training step, read top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visionmtl.types import Batch
from visionmtl.weighting.base import LossWeighting


@dataclass
class StepParts:
    """What a forward and backward pass needs; ``model`` may be a compiled or wrapped network."""

    model: nn.Module
    criterion: nn.Module
    weighting: LossWeighting
    device: torch.device
    bf16: bool = False


def forward_losses(parts: StepParts, batch: Batch) -> Tensor:
    """Losses (T,) of a batch, in task order; 0 with a graph where a task is not annotated."""
    with torch.autocast(parts.device.type, dtype=torch.bfloat16, enabled=parts.bf16):
        predictions = parts.model(batch.images)
    losses: Tensor = parts.criterion(predictions, batch.targets)
    return losses


def backward(parts: StepParts, losses: Tensor, batch: Batch, accumulate: int) -> None:
    """Add the gradient of the weighted loss over ``accumulate`` to ``.grad``.

    Losses are normalised by the valid pixels or positives of their own micro-batch: accumulation averages micro-batch
    losses. That is the loss of one large batch where the micro-batches have the same number of valid pixels. A task
    that some micro-batches have no truth for counts as 0 there.
    """
    present = [count > 0 for count in batch.annotated.values()]
    (parts.weighting(losses, present) / accumulate).backward()
