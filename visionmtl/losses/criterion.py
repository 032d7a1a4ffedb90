"""All tasks' losses in one vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from visionmtl.types import Prediction, Targets


class Criterion(nn.Module):
    """One loss per task, stacked in task order.

    Args:
        losses: the loss of each task; the order of the dict is the task order.

    Raises:
        ValueError: no losses.
    """

    def __init__(self, losses: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("a criterion needs the loss of at least one task, got none")
        self.tasks = list(losses)
        # Not a ModuleDict, which refuses a task named like one of its own attributes.
        self.losses = nn.ModuleList(losses.values())

    def forward(self, predictions: Mapping[str, Prediction], targets: Mapping[str, Targets]) -> Tensor:
        """Losses (T,) in task order; 0 with a graph for a task that the batch has no truth for.

        Raises:
            ValueError: a task without a prediction or without targets.
        """
        for name, values in (("prediction", predictions), ("targets", targets)):
            missing = [task for task in self.tasks if task not in values]
            if missing:
                raise ValueError(f"no {name} for task {', '.join(map(repr, missing))}; got {list(values)}")
        pairs = zip(self.tasks, self.losses, strict=True)
        return torch.stack([loss(predictions[task], targets[task]) for task, loss in pairs])
