"""Runs that differ only in their seed are one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from visionmtl.analysis.compare.naming import IGNORED, comparable, group_names, without_suffix
from visionmtl.analysis.compare.reading import Run
from visionmtl.config.load import config_differences
from visionmtl.config.schema import Config
from visionmtl.types import TaskSpec


@dataclass(frozen=True)
class Group:
    """Runs of one config with different seeds, in the order of the seeds."""

    name: str
    runs: list[Run]

    @property
    def tasks(self) -> list[TaskSpec]:
        return self.runs[0].tasks

    @property
    def task_names(self) -> set[str]:
        return {spec.name for spec in self.tasks}

    @property
    def config(self) -> Config:
        return self.runs[0].config


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs whose configs differ in nothing but ``IGNORED`` keys, in the order in which they
    come.

    Raises:
        ValueError: a group has two runs of one seed.
    """
    members: list[list[Run]] = []
    for run in runs:
        for seeds in members:
            if not _differ(seeds[0], run):
                seeds.append(run)
                break
        else:
            members.append([run])
    for seeds in members:
        seeds.sort(key=lambda run: run.config.seed)
    groups = list(map(Group, group_names([seeds[0] for seeds in members]), members))
    for group in groups:
        for a, b in pairwise(group.runs):
            if a.config.seed == b.config.seed:
                raise ValueError(
                    f"{group.name}: seed {a.config.seed} is there twice, {a.folder} and {b.folder}"
                )
    return groups


def choose_baseline(groups: Sequence[Group], pattern: str) -> list[Group]:
    """The groups whose name, or one of whose run folders, with or without seed and time, matches
    ``pattern``.

    Raises:
        ValueError: no match or nothing left to compare, groups of different tasks beside the
            baseline, or a baseline that does not train each of their tasks once.
    """
    if len(groups) == 1:
        raise ValueError(
            f"all runs are of one config, {groups[0].name}; name also the runs to compare it with"
        )
    chosen = [group for group in groups if _matches(group, pattern)]
    others = [group for group in groups if group not in chosen]
    listed = "; ".join(group.name for group in groups)
    if not chosen:
        raise ValueError(f"--baseline: {pattern!r} matches none of the groups: {listed}")
    if not others:
        raise ValueError(f"--baseline: {pattern!r} matches all of the groups: {listed}")
    expected = others[0].task_names
    for group in others:
        if group.task_names != expected:
            raise ValueError(
                f"{group.name} trains {_listed(group.task_names)}, {others[0].name} "
                f"{_listed(expected)}: only the groups of the baseline may train other tasks; "
                "compare these apart, or name them with --baseline"
            )
    covered = Counter(name for group in chosen for name in group.task_names)
    doubled = {name for name, times in covered.items() if times > 1}
    wrong = doubled | (expected ^ set(covered))
    if wrong:
        named = "; ".join(f"{group.name} ({_listed(group.task_names)})" for group in chosen)
        raise ValueError(
            f"--baseline: {pattern!r} must train each task of the others ({_listed(expected)}) "
            f"exactly once; {_listed(wrong)} does not fit in {named}"
        )
    return chosen


def _matches(group: Group, pattern: str) -> bool:
    """Whether a pattern names a group, or one of its run folders with or without seed and time."""
    names = [group.name]
    for run in group.runs:
        folder = run.folder.resolve().name
        names += [folder, without_suffix(folder)]
    return any(fnmatchcase(name, pattern) for name in names)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _differ(a: Run, b: Run) -> bool:
    return bool(config_differences(comparable(a), comparable(b), IGNORED))
