"""All tasks' losses in one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        counts = torch.stack([criterion.counts(t) for t in targets]).sum(0)
        losses = sum(criterion(model(part.images), t, counts) for part, t in zip(parts, targets))

    With several processes, ``counts`` are summed over them.

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
        """The targets of a batch in the form that the losses take.

        Boxes are matched to points here, once.

        Raises:
            ValueError: a task without targets.
        """
        self._check("targets", batch.targets)
        size = (batch.images.shape[-2], batch.images.shape[-1])
        prepared = {}
        for task, loss in zip(self.tasks, self.losses, strict=True):
            prepared[task] = loss.prepare(batch.targets[task], size)
        return prepared

    def counts(self, targets: Mapping[str, Any]) -> Tensor:
        """What the losses divide by, float32 (n,), from prepared targets.

        Those of the parts of a batch are added up.

        Raises:
            ValueError: a task without targets.
        """
        self._check("targets", targets)
        counts = []
        for task, loss in zip(self.tasks, self.losses, strict=True):
            counts.append(loss.counts(targets[task]))
        return torch.cat(counts)

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
        own: Sequence[Tensor | None] = [None] * len(widths)
        if counts is not None:
            own = torch.split(counts, widths)
        losses = []
        for task, loss, of_task in zip(self.tasks, self.losses, own, strict=True):
            losses.append(loss(predictions[task], targets[task], of_task))
        return torch.stack(losses)

    def _check(self, name: str, values: Mapping[str, Any]) -> None:
        missing = [task for task in self.tasks if task not in values]
        if missing:
            names = ", ".join(map(repr, missing))
            raise ValueError(f"no {name} for task {names}; got {list(values)}")


def build_loss(spec: TaskSpec, /, type: str | None = None, **options: Any) -> TaskLoss:
    """The loss of a task.

    Args:
        spec: the task; its number of classes goes to the losses that want it.
        type: a name of ``LOSSES``; None is the kind's default.
        options: of that class.

    Raises:
        ValueError: an unknown type or option, or an option with a bad value.
    """
    kind = spec.kind.name
    known = LOSSES.names_for(kind, spec.kind.loss)
    name = type
    if name is None:
        name = spec.kind.loss
    if name not in known:
        problem = f"unknown {kind} loss {name!r}; known: {', '.join(known)}"
        raise ValueError(f"task {spec.name!r}: {problem}")
    try:
        return LOSSES.make(name, spec.kind.facts(), options)
    except ValueError as error:
        raise ValueError(f"task {spec.name!r}: loss {name!r}: {error}") from error
