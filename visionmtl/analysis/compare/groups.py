"""Runs that differ only in their seed are one group; its name says what sets it apart from the
others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from visionmtl._faults import shown
from visionmtl.analysis.compare.reading import Run
from visionmtl.config.load import config_differences
from visionmtl.config.schema import Config
from visionmtl.engine.resume import RESUMABLE
from visionmtl.types import TaskSpec

IGNORED = ("seed", *(key for key in RESUMABLE if key != "trainer.epochs"))
"""Config keys in which the runs of a group may differ."""
_SUFFIX = re.compile(r"(?:[-_.](?:seed|s)[-_=]?\d+|-\d{8}-\d{6}(?:-\d+)?)$")


@dataclass(frozen=True)
class Group:
    """Runs of one config with different seeds, in the order of the seeds."""

    name: str
    runs: list[Run]

    @property
    def tasks(self) -> list[TaskSpec]:
        return self.runs[0].tasks

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
        same = next((seeds for seeds in members if not _differ(seeds[0], run)), None)
        if same is None:
            members.append([run])
        else:
            same.append(run)
    ordered = [sorted(seeds, key=lambda run: run.config.seed) for seeds in members]
    groups = [Group(name, seeds) for name, seeds in zip(_names(ordered), ordered, strict=True)]
    for group in groups:
        for a, b in zip(group.runs, group.runs[1:], strict=False):
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
    chosen = [
        group
        for group in groups
        if any(fnmatchcase(name, pattern) for name in [group.name, *_folder_names(group)])
    ]
    others = [group for group in groups if group not in chosen]
    if len(groups) == 1:
        raise ValueError(
            f"all runs are of one config, {groups[0].name}; name also the runs to compare it with"
        )
    if not chosen or not others:
        listed = "; ".join(group.name for group in groups)
        raise ValueError(
            f"--baseline: {pattern!r} matches {'all' if chosen else 'none'} of the groups: {listed}"
        )
    expected = {spec.name for spec in others[0].tasks}
    for group in others:
        if (names := {spec.name for spec in group.tasks}) != expected:
            raise ValueError(
                f"{group.name} trains {_listed(names)}, {others[0].name} {_listed(expected)}: only the groups of "
                "the baseline may train other tasks; compare these apart, or name them with --baseline"
            )
    covered = Counter(spec.name for group in chosen for spec in group.tasks)
    if wrong := sorted(
        name for name in expected | set(covered) if covered[name] != 1 or name not in expected
    ):
        listed = "; ".join(
            f"{group.name} ({_listed(spec.name for spec in group.tasks)})" for group in chosen
        )
        raise ValueError(
            f"--baseline: {pattern!r} must train each task of the others ({_listed(expected)}) exactly once; "
            f"{_listed(wrong)} does not fit in {listed}"
        )
    return chosen


def _folder_names(group: Group) -> list[str]:
    names = [_folder(run).name for run in group.runs]
    return [*names, *map(_without_suffix, names)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _differ(a: Run, b: Run) -> bool:
    return bool(config_differences(_comparable(a), _comparable(b), IGNORED))


def _comparable(run: Run) -> Config:
    """The config with its tasks named, and without the seeds of trained models that it starts
    from.
    """
    made = run.config.model_copy(deep=True)
    made.tasks = [spec.name for spec in run.tasks]
    made.model.init_from = {
        task: _without_suffix(source) for task, source in made.model.init_from.items()
    }
    return made


def _without_suffix(name: str) -> str:
    """``depth_seed0-20260101-120000`` -> ``depth``."""
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name


def _names(members: Sequence[Sequence[Run]]) -> list[str]:
    """What differs between the groups; where that does not tell them apart, the name or path of the
    run folder.
    """
    every = {spec.name for runs in members for spec in runs[0].tasks}
    settings = [_settings(runs[0], every) for runs in members]
    values: dict[str, set[str]] = {}
    for own in settings:
        for key, value in own.items():
            values.setdefault(key, set()).add(value)
    differing = {
        key for key, found in values.items() if len(found) > 1
    }  # what a group lacks says nothing about it
    types = {
        key for key in differing if key.partition(".")[0] not in differing - {key}
    }  # without their options
    schemes: list[Callable[[int], str]] = [
        lambda i: " ".join(f"{key}={value}" for key, value in settings[i].items() if key in types),
        lambda i: " ".join(
            f"{key}={value}" for key, value in settings[i].items() if key in differing
        ),
        lambda i: _without_suffix(_folder(members[i][0]).name),
        lambda i: str(_folder(members[i][0])),
    ]
    names: dict[int, str] = {}
    for scheme in schemes:
        made = {i: scheme(i) for i in range(len(members)) if i not in names}
        taken = Counter([*made.values(), *names.values()])
        names |= {i: name for i, name in made.items() if name and taken[name] == 1}
    assert len(names) == len(members)
    return [names[i] for i in range(len(members))]


def _folder(run: Run) -> Path:
    return run.folder.resolve()


def _settings(run: Run, every: set[str]) -> dict[str, str]:
    """The config as ``key: text``, under short keys: ``sharing`` for ``model.sharing.type``."""
    tasks = {spec.name for spec in run.tasks}
    values = {
        **_comparable(run).model_dump(mode="json"),
        "tasks": "all" if tasks == every else sorted(tasks),
    }
    flat = _flat(values)
    kept = {
        key: value
        for key, value in flat
        if not any(key == k or key.startswith(f"{k}.") for k in IGNORED)
    }
    short = {
        re.sub(r"\.(type|name)$", "", key).removeprefix("model."): value
        for key, value in kept.items()
    }
    return {key: _text(value) for key, value in short.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else shown(value)
