"""One metric per task, all fed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from visionmtl.types import DenseTargets, Detections, Targets, TaskSpec

Results = Mapping[str, Mapping[str, Any]]
"""Task -> key -> value, as ``MultiTaskMetrics.compute`` gives it."""


class _SampleCounter(Metric):
    """Samples seen, then annotated samples by task; a metric, so that ranks are summed."""

    full_state_update: bool = False
    counts: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        zeros = torch.zeros(1 + num_tasks, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        self.counts += counts

    def compute(self) -> list[int]:
        return list(map(int, self.counts.tolist()))


class MultiTaskMetrics:
    """One metric per task, fed batch by batch.

    Under torch.distributed every rank must call ``compute``.

    Args:
        tasks: the tasks, in their order.

    Raises:
        ValueError: a task name that is repeated or is ``samples``, which is a key of the results.
    """

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        names = [task.name for task in tasks]
        if len({*names, "samples"}) != len(names) + 1:
            must = "task names must differ from each other and from 'samples'"
            raise ValueError(f"metrics: {must}, got {names}")
        self.metrics: dict[str, Metric] = {task.name: task.kind.make_metric() for task in tasks}
        self._counter = _SampleCounter(len(tasks))

    def update(
        self,
        predictions: Mapping[str, Tensor | Sequence[Detections]],
        targets: Mapping[str, Targets],
    ) -> None:
        """Add one batch.

        Args:
            predictions: by task, as its metric takes it; detection already decoded, one
                ``Detections`` per image. A task that is missing is not updated.
            targets: by task; pixels of samples that are not annotated are not valid and do not
                count.

        Raises:
            ValueError: a task without metric or without targets.
        """
        for task in predictions:
            if task not in self.metrics or task not in targets:
                known = f"metrics: {list(self.metrics)}, targets: {list(targets)}"
                raise ValueError(f"{task}: no such task; {known}")
        device = self._counter.device
        total = 0
        counts = []
        for task, metric in self.metrics.items():
            count = torch.zeros((), dtype=torch.int64)
            if task in predictions:
                metric.update(predictions[task], targets[task])
                count = _num_annotated(targets[task])
                total = max(total, len(targets[task].annotated))
            counts.append(count.to(device))
        self._counter.update(torch.stack([torch.tensor(total, device=device), *counts]))

    def compute(self) -> dict[str, dict[str, Any]]:
        """Values by task and key.

        Under ``samples`` is how many there were: ``total``, and by task the annotated ones.
        """
        results: dict[str, dict[str, Any]] = {}
        for task, metric in self.metrics.items():
            results[task] = metric.compute()
        counts = self._counter.compute()
        results["samples"] = dict(zip(["total", *self.metrics], counts, strict=True))
        return results

    def reset(self) -> None:
        """Forget everything that was seen."""
        for metric in (*self.metrics.values(), self._counter):
            metric.reset()

    def to(self, device: torch.device | str) -> MultiTaskMetrics:
        """Move the states to the device of the predictions."""
        for metric in (*self.metrics.values(), self._counter):
            metric.to(device)
        return self


def _num_annotated(targets: Targets) -> Tensor:
    if isinstance(targets, DenseTargets):
        return targets.annotated.sum()
    return torch.tensor(sum(targets.annotated))
