"""delta_m: what multi-task learning gained over single-task training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from visionmtl.metrics.multitask import Results
from visionmtl.types import TaskSpec


@dataclass(frozen=True)
class DeltaM:
    """What multi-task learning gained over single-task training, in percent.

    Name the convention with the number.

    Attributes:
        headline: convention A, higher is better: the mean of ``per_task``.
        all_metrics: convention B, lower is better: the mean over several metrics of each task.
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
    per_task = {}
    all_gains: list[float] = []
    for task in tasks:
        metric = task.kind.metric
        per_task[task.name] = _gain(results, single_task, task, metric.headline)
        all_gains += [_gain(results, single_task, task, key) for key in metric.delta_m_keys]
    return DeltaM(fmean(per_task.values()), -fmean(all_gains), per_task)


def _gain(results: Results, single_task: Results, task: TaskSpec, key: str) -> float:
    """Relative change in percent, positive where ``results`` is better."""
    for label, values in (("multi-task", results), ("single-task", single_task)):
        if key not in values.get(task.name, {}):
            raise ValueError(f"delta_m: the {label} results have no value {task.name}.{key}")
    ours = float(results[task.name][key])
    base = float(single_task[task.name][key])
    if base == 0:
        return math.nan
    change = 100 * (ours - base) / base
    if task.kind.metric.higher_is_better_by_key[key]:
        return change
    return -change
