"""All tasks together: one metric per task, the score that picks the best checkpoint, and
delta_m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torchmetrics import Metric

from visionmtl.types import DenseTargets, Detections, Targets, TaskSpec

Results = Mapping[str, Mapping[str, Any]]
"""Task -> key -> value, as ``MultiTaskMetrics.compute`` gives it."""


class _SampleCounter(Metric):
    """Number of samples seen, then of annotated samples by task; a metric so that ranks are
    summed.
    """

    full_state_update: bool = False
    counts: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.add_state(
            "counts", torch.zeros(1 + num_tasks, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, counts: Tensor) -> None:
        self.counts += counts

    def compute(self) -> list[int]:
        return [int(count) for count in self.counts.tolist()]


class MultiTaskMetrics:
    """One metric per task, fed batch by batch. Under torch.distributed every rank must call
    ``compute``.

    Args:
        tasks: the tasks, in their order.

    Raises:
        ValueError: a task name that is repeated or is ``samples``, which is a key of the results.
    """

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        names = [task.name for task in tasks]
        if len({*names, "samples"}) != len(names) + 1:
            raise ValueError(
                f"metrics: task names must differ from each other and from 'samples', got {names}"
            )
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
                raise ValueError(
                    f"{task}: no such task; metrics: {list(self.metrics)}, targets: {list(targets)}"
                )
        device = self._counter.device
        counts = [torch.zeros((), dtype=torch.int64, device=device) for _ in self.metrics]
        for i, (task, metric) in enumerate(self.metrics.items()):
            if task in predictions:
                metric.update(predictions[task], targets[task])
                counts[i] = _num_annotated(targets[task]).to(device)
        total = max((len(targets[task].annotated) for task in predictions), default=0)
        self._counter.update(torch.stack([torch.tensor(total, device=device), *counts]))

    def compute(self) -> dict[str, dict[str, Any]]:
        """Values by task and key, and under ``samples`` how many there were: ``total`` and
        annotated by task.
        """
        results: dict[str, dict[str, Any]] = {
            task: metric.compute() for task, metric in self.metrics.items()
        }
        results["samples"] = dict(
            zip(["total", *self.metrics], self._counter.compute(), strict=True)
        )
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


def validation_score(results: Results, tasks: Sequence[TaskSpec]) -> float:
    """The number by which the best checkpoint is chosen: the mean over tasks of one share in
    percent, higher is better.

    The shares are semseg ``miou``, depth and disparity ``delta1``, normals ``within_22.5``,
    detection ``map``, saliency ``max_f`` and edge ``ods_f``: all in 0..100, so that no task
    outweighs the others by its unit. Tasks that are nan (not annotated in the split) are left out;
    a prediction that is not finite fails the shares and lowers the score. Nan where all tasks are
    nan.
    """
    shares = [float(results[task.name][task.kind.metric.score_key]) for task in tasks]
    known = [share for share in shares if not math.isnan(share)]
    return fmean(known) if known else math.nan


@dataclass(frozen=True)
class DeltaM:
    """What multi-task learning gained over single-task training, in percent. Name the convention
    with the number.

    Attributes:
        headline: convention A, higher is better: the mean of ``per_task``.
        all_metrics: convention B, lower is better: the mean over all metrics of all tasks.
        per_task: gain of each task's main metric, higher is better.
    """

    headline: float
    all_metrics: float
    per_task: dict[str, float]


def delta_m(results: Results, single_task: Results, tasks: Sequence[TaskSpec]) -> DeltaM:
    """Compare a multi-task run with single-task runs of the same backbone, data and schedule.

    Convention A (Maninis et al. 2019, https://arxiv.org/abs/1904.08918; Vandenhende et al. 2021,
    https://arxiv.org/abs/2004.13379): ``1/T sum_t (-1)^l_t (M_m,t - M_b,t) / M_b,t`` in percent
    over the T tasks, with one main metric M each and l_t = 1 where lower is better: semseg miou,
    depth rmse, normals mean, detection map, disparity abs_err, saliency max_f, edge ods_f.

    Convention B (Nash-MTL, https://arxiv.org/abs/2202.01017; FAMO,
    https://arxiv.org/abs/2306.03792): ``1/K sum_k (-1)^d_k (M_m,k - M_b,k) / M_b,k`` in percent
    over the K metrics of all tasks together, with d_k = 1 where higher is better. The metrics are
    semseg miou, pixel_accuracy; depth abs_err, abs_rel; normals mean, median, within_11.25,
    within_22.5, within_30 (so far the nine of the NYUv2 tables); detection map, map_50, map_75;
    disparity abs_err, abs_rel (the depth of Cityscapes tables is in truth a disparity); saliency
    max_f, miou; edge ods_f.

    A value that is nan on either side, or 0 on the single-task side, has no relative change: the
    task's entry and the means it belongs to are nan, since a mean over the other tasks is not
    comparable. Pass the tasks that have both.

    Args:
        results: the multi-task run, by task and key.
        single_task: the single-task values, by task and key.
        tasks: the tasks to compare.

    Raises:
        ValueError: no tasks, or a value that is missing.
    """
    if not tasks:
        raise ValueError("delta_m: expected at least one task, got none")
    per_task = {
        task.name: _gain(results, single_task, task, task.kind.metric.headline) for task in tasks
    }
    all_gains = [
        _gain(results, single_task, task, key)
        for task in tasks
        for key in task.kind.metric.delta_m_keys
    ]
    return DeltaM(fmean(per_task.values()), -fmean(all_gains), per_task)


def _gain(results: Results, single_task: Results, task: TaskSpec, key: str) -> float:
    """Relative change in percent, positive where ``results`` is better."""
    for label, values in (("multi-task", results), ("single-task", single_task)):
        if key not in values.get(task.name, {}):
            raise ValueError(f"delta_m: the {label} results have no value {task.name}.{key}")
    ours, base = float(results[task.name][key]), float(single_task[task.name][key])
    if base == 0:
        return math.nan
    change = 100 * (ours - base) / base
    return change if task.kind.metric.higher_is_better_by_key[key] else -change


def format_table(results: Results, tasks: Sequence[TaskSpec]) -> Table:
    """A table for the terminal: one line per value, its main metric in bold, an arrow to the better
    side.
    """
    table = Table("task", "metric", "", "value")
    table.columns[-1].justify = "right"
    for task in tasks:
        metric = task.kind.metric
        for i, (key, higher) in enumerate(metric.higher_is_better_by_key.items()):
            value = float(results[task.name][key])
            text = "n/a" if math.isnan(value) else f"{value:#.4g}"
            style = "bold" if key == metric.headline else None
            table.add_row(
                task.name if i == 0 else "", key, "↑" if higher else "↓", text, style=style
            )
        samples = results.get("samples", {})
        if task.name in samples:
            table.add_row("", "samples", "", f"{samples[task.name]} / {samples['total']}")
        table.add_section()
    return table
