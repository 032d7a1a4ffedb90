"""Names of groups of runs: what sets each apart from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from visionmtl._faults import shown
from visionmtl.analysis.compare.reading import Run
from visionmtl.config.schema import Config
from visionmtl.engine.resume import RESUMABLE

IGNORED = ("seed", *(key for key in RESUMABLE if key != "trainer.epochs"))
"""Config keys in which the runs of a group may differ."""
_SUFFIX = re.compile(r"(?:[-_.](?:seed|s)[-_=]?\d+|-\d{8}-\d{6}(?:-\d+)?)$")
Settings = dict[str, str]
"""A config as text, under short keys: ``sharing`` for ``model.sharing.type``."""


def group_names(runs: Sequence[Run]) -> list[str]:
    """A name for each group, given by one run of it.

    The name is what differs between the groups; where that does not tell them apart, it is the name
    or the path of the run folder.
    """
    every: set[str] = set()
    for run in runs:
        every.update(spec.name for spec in run.tasks)
    settings = [_settings(run, every) for run in runs]
    differing = _differing(settings)
    choices = {key for key in differing if not _is_option(key, differing)}
    candidates = []
    for run, own in zip(runs, settings, strict=True):
        candidates.append([_text_of(own, choices), _text_of(own, differing), *_folder_names(run)])
    names = [""] * len(runs)
    for scheme in zip(*candidates, strict=True):
        made = [name or candidate for name, candidate in zip(names, scheme, strict=True)]
        taken = Counter(made)
        for i, name in enumerate(made):
            if taken[name] == 1:
                names[i] = name
    assert all(names)
    return names


def _folder_names(run: Run) -> list[str]:
    """Name and path of the run folder; the path no other group has."""
    folder = run.folder.resolve()
    return [without_suffix(folder.name), str(folder)]


def comparable(run: Run) -> Config:
    """The config with its tasks named, and without the seeds of trained models that it starts
    from.
    """
    made = run.config.model_copy(deep=True)
    made.tasks = [spec.name for spec in run.tasks]
    sources = made.model.init_from
    made.model.init_from = {task: without_suffix(source) for task, source in sources.items()}
    return made


def without_suffix(name: str) -> str:
    """A name without seed and time.

    >>> without_suffix("depth_seed0-20260101-120000")
    'depth'
    """
    while True:
        shorter = _SUFFIX.sub("", name)
        if shorter in ("", name):
            return name
        name = shorter


def _differing(settings: Sequence[Settings]) -> set[str]:
    """Keys with several values; that a group lacks a key says nothing about it."""
    values: dict[str, set[str]] = {}
    for own in settings:
        for key, value in own.items():
            values.setdefault(key, set()).add(value)
    return {key for key, found in values.items() if len(found) > 1}


def _is_option(key: str, differing: set[str]) -> bool:
    """Whether a key is an option of a choice that differs itself."""
    return key.partition(".")[0] in differing - {key}


def _text_of(settings: Settings, keys: set[str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items() if key in keys)


def _settings(run: Run, every: set[str]) -> Settings:
    values = comparable(run).model_dump(mode="json")
    tasks = {spec.name for spec in run.tasks}
    values["tasks"] = sorted(tasks)
    if tasks == every:
        values["tasks"] = "all"
    settings = {}
    for key, value in _flat(values):
        if not _is_ignored(key):
            short = re.sub(r"\.(type|name)$", "", key).removeprefix("model.")
            settings[short] = _text(value)
    return settings


def _is_ignored(key: str) -> bool:
    return any(key == ignored or key.startswith(f"{ignored}.") for ignored in IGNORED)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return ",".join(map(_text, value))
    return shown(value)
