"""Means over seeds, gains over the baseline, and whether a gain is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from visionmtl.analysis.compare.caveats import caveats
from visionmtl.analysis.compare.cost import Cost, measure_cost
from visionmtl.analysis.compare.groups import Group
from visionmtl.analysis.compare.spread import Spread
from visionmtl.engine.logging import json_safe
from visionmtl.metrics.gain import delta_m
from visionmtl.types import TaskSpec

CONVENTIONS = {"A": True, "B": False}
"""Conventions of delta_m, and whether higher is better."""


@dataclass(frozen=True)
class Comparison:
    """All numbers of a comparison.

    Attributes:
        baseline: the groups that are the baseline.
        others: the groups that are compared with it.
        metrics: group -> task -> key.
        gains: group -> convention -> seed -> delta_m in percent against the means of the baseline
            over its seeds; of a group of the baseline over its own tasks, so that its mean is 0.
        costs: of each group.
        warnings: sentences on what makes the numbers hard to compare.
    """

    baseline: list[Group]
    others: list[Group]
    metrics: dict[str, dict[str, dict[str, Spread]]]
    gains: dict[str, dict[str, dict[int, float]]]
    costs: dict[str, Cost]
    warnings: list[str]

    @property
    def groups(self) -> list[Group]:
        return [*self.baseline, *self.others]

    @property
    def tasks(self) -> list[TaskSpec]:
        """The tasks that are compared, in order."""
        return self.others[0].tasks

    def gain(self, group: Group, convention: str) -> Spread:
        """delta_m of a group over its seeds."""
        return Spread.of(list(self.gains[group.name][convention].values()))

    def noise(self, group: Group, convention: str) -> float:
        """Two standard errors of the gain, percent; nan where one side has a group of a single
        seed.

        The error of the baseline's means counts too. delta_m is a mean of changes, and each group
        of the baseline stands behind its share of them; to first order the gain moves with its base
        as the base does with itself.
        """
        errors = [self.gain(group, convention).standard_error]
        for part in self.baseline:
            share = _size(part.tasks, convention) / _size(self.tasks, convention)
            errors.append(share * self.gain(part, convention).standard_error)
        return 2 * math.hypot(*errors)

    def verdict(self, group: Group) -> str:
        """One sentence: better, worse, or within the noise."""
        counts = sorted({len(side.runs) for side in (group, *self.baseline)})
        seeds = f"{' or '.join(map(str, counts))} seeds"
        parts = [f"delta_m {name} {self._finding(group, name, seeds)}" for name in CONVENTIONS]
        return f"{group.name}: {'; '.join(parts)}."

    def _finding(self, group: Group, convention: str, seeds: str) -> str:
        gain = self.gain(group, convention).mean
        noise = self.noise(group, convention)
        if math.isnan(gain):
            return "is not defined, a value is missing or 0 in the baseline"
        found = f"is {gain:+z.2f} %"
        if math.isnan(noise):
            return f"{found}; with a single seed nothing can be said about noise"
        if abs(gain) <= noise:
            return f"{found}, within the noise of {seeds} (± {noise:.2f})"
        side = "worse"
        if (gain > 0) == CONVENTIONS[convention]:
            side = "better"
        return f"{found}, {side} than the baseline and beyond the noise of {seeds} (± {noise:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, None for nan."""
        return {
            "baseline": [group.name for group in self.baseline],
            "groups": {group.name: json_safe(self._group_dict(group)) for group in self.groups},
            "warnings": self.warnings,
        }

    def _group_dict(self, group: Group) -> dict[str, Any]:
        metrics = {}
        for task, values in self.metrics[group.name].items():
            metrics[task] = {key: asdict(spread) for key, spread in values.items()}
        gains = {}
        for convention, seeds in self.gains[group.name].items():
            gain: dict[str, Any] = asdict(self.gain(group, convention))
            gain["seeds"] = {str(seed): value for seed, value in seeds.items()}
            if group in self.others:
                gain["noise"] = self.noise(group, convention)
            gains[convention] = gain
        record = {
            "runs": {str(run.config.seed): str(run.folder) for run in group.runs},
            "metrics": metrics,
            "delta_m": gains,
            "cost": asdict(self.costs[group.name]),
        }
        if group in self.others:
            record["verdict"] = self.verdict(group)
        return record


def compare(groups: Sequence[Group], baseline: Sequence[Group]) -> Comparison:
    """Compare groups with those of them that are the baseline, see ``choose_baseline``.

    Raises:
        ValueError: a network cannot be built.
    """
    others = [group for group in groups if group not in baseline]
    metrics = {group.name: _metrics(group) for group in groups}
    means = {}
    for group in baseline:
        for task, values in metrics[group.name].items():
            means[task] = {key: spread.mean for key, spread in values.items()}
    return Comparison(
        baseline=list(baseline),
        others=others,
        metrics=metrics,
        gains={group.name: _gains(group, means) for group in groups},
        costs={group.name: measure_cost(group.runs) for group in groups},
        warnings=caveats([*baseline, *others]),
    )


def _metrics(group: Group) -> dict[str, dict[str, Spread]]:
    """By task and key, over the seeds of the group."""
    metrics: dict[str, dict[str, Spread]] = {}
    for spec in group.tasks:
        metrics[spec.name] = {}
        for key in spec.kind.metric.higher_is_better_by_key:
            values = [run.results[spec.name][key] for run in group.runs]
            metrics[spec.name][key] = Spread.of(values)
    return metrics


def _gains(group: Group, means: dict[str, dict[str, float]]) -> dict[str, dict[int, float]]:
    """delta_m by convention and seed."""
    gains: dict[str, dict[int, float]] = {"A": {}, "B": {}}
    for run in group.runs:
        gain = delta_m(run.results, means, group.tasks)
        gains["A"][run.config.seed] = gain.headline
        gains["B"][run.config.seed] = gain.all_metrics
    return gains


def _size(tasks: Sequence[TaskSpec], convention: str) -> int:
    """How many changes delta_m is the mean of."""
    if convention == "A":
        return len(tasks)
    return sum(len(spec.kind.metric.delta_m_keys) for spec in tasks)
