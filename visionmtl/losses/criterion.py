"""All tasks' losses in one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.types import Batch, Prediction, TaskSpec


class Criterion(nn.Module):
    """One loss per task, stacked in task order.

    A batch that comes in parts, as micro-batches or on several processes, has the losses of the
    whole one like this::

        targets = [criterion.prepare(part) for part in parts]
        counts = torch.stack([criterion.counts(t) for t in targets]).sum(0)  # and over the
        processes losses = sum(criterion(model(part.images), t, counts) for part, t in zip(parts,
        targets))

    This is exact but for soft Dice, SILog and the threshold of berHu, which are taken over each
    part.

    Args:
        losses: the loss of each task; the order of the dict is the task order.

    Raises:
        ValueError: no losses.
    """

    def __init__(self, losses: Mapping[str, TaskLoss]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("a criterion needs the loss of at least one task, got none")
        self.tasks = list(losses)
        # Not a ModuleDict, which refuses a task named like one of its own attributes.
        self.losses: Any = nn.ModuleList(losses.values())

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """The targets of ``batch`` in the form that the losses want; boxes are matched to points
        here, once.

        Raises:
            ValueError: a task without targets.
        """
        self._check("targets", batch.targets)
        size = (batch.images.shape[-2], batch.images.shape[-1])
        pairs = zip(self.tasks, self.losses, strict=True)
        return {task: loss.prepare(batch.targets[task], size) for task, loss in pairs}

    def counts(self, targets: Mapping[str, Any]) -> Tensor:
        """What the losses divide by, float32 (n,), from prepared targets; those of the parts of a
        batch are added up.

        Raises:
            ValueError: a task without targets.
        """
        self._check("targets", targets)
        return torch.cat(
            [loss.counts(targets[task]) for task, loss in zip(self.tasks, self.losses, strict=True)]
        )

    def forward(
        self,
        predictions: Mapping[str, Prediction],
        targets: Mapping[str, Any],
        counts: Tensor | None = None,
    ) -> Tensor:
        """Losses (T,) in task order; 0 with a graph for a task that the batch has no truth for.

        Args:
            predictions: of every task.
            targets: of every task, prepared or not.
            counts: ``counts`` of the whole batch of which this is a part; None if this is all of
                it.

        Raises:
            ValueError: a task without a prediction or without targets.
        """
        self._check("prediction", predictions)
        self._check("targets", targets)
        widths = [loss.num_counts for loss in self.losses]
        own = [None] * len(widths) if counts is None else torch.split(counts, widths)
        triples = zip(self.tasks, self.losses, own, strict=True)
        return torch.stack(
            [loss(predictions[task], targets[task], of_task) for task, loss, of_task in triples]
        )

    def _check(self, name: str, values: Mapping[str, Any]) -> None:
        missing = [task for task in self.tasks if task not in values]
        if missing:
            raise ValueError(
                f"no {name} for task {', '.join(map(repr, missing))}; got {list(values)}"
            )


def build_loss(spec: TaskSpec, /, type: str | None = None, **options: Any) -> TaskLoss:
    """The loss of a task.

    Args:
        spec: the task; its number of classes goes to the losses that want it.
        type: a name of ``LOSSES``; None is the kind's default.
        options: of that class.

    Raises:
        ValueError: an unknown type or option, or an option with a bad value.
    """
    known = [name for name, loss in LOSSES.items() if spec.kind.name in loss.kinds]
    name = spec.kind.loss if type is None else type
    if name not in known:
        listed = ", ".join(known)
        raise ValueError(
            f"task {spec.name!r}: unknown {spec.kind.name} loss {name!r}; known: {listed}"
        )
    try:
        return LOSSES.make(name, spec.kind.facts(), options)
    except ValueError as error:
        raise ValueError(f"task {spec.name!r}: loss {name!r}: {error}") from error
