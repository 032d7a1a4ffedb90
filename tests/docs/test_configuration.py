"""The page of the config keys against the code."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args

from visionmtl.balancing import BALANCERS
from visionmtl.config.data import PackedData
from visionmtl.config.schema import Config
from visionmtl.config.sections import Section
from visionmtl.data.sets import PACKINGS
from visionmtl.data.transforms.steps import STEPS
from visionmtl.tasks import TASKS
from visionmtl.weighting import WEIGHTINGS

LINES = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8").splitlines()
SECTIONS = {
    "data",
    "data.sets",
    "model",
    "weighting",
    "balancing",
    "optimizer`, `schedule",
    "trainer",
    "logging",
}


def row(start: str) -> str:
    (found,) = (line for line in LINES if line.startswith(f"| {start} |"))
    return found


def sections_of(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def keys(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key that is not a section, dotted, and its default as the page shows it."""
    for name, field in section.model_fields.items():
        children = sections_of(field.annotation)
        for child in children:
            yield from keys(child, f"{prefix}{name}.")
        if not children:
            yield prefix + name, "required" if field.is_required() else f"`{shown(field.default)}`"


def shown(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value).replace('"', "")


def options(function: Callable[..., Any], *given: str) -> dict[str, Any]:
    """Name -> default of what a config can set."""
    parameters = signature(function).parameters.values()
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in parameters if p.kind in kinds and p.name not in given}


def test_every_key_is_there_with_its_default() -> None:
    expected = defaultdict(set)
    for key, default in keys(Config):
        expected[key].add(default)  # a key of several kinds of data may have several
    for key in [
        key for key in expected if key.startswith("data.sets.")
    ]:  # the sets' own keys are those of their kinds
        if key not in ("data.sets.name", "data.sets.tasks"):
            assert key.replace(".sets", "") in expected
            del expected[key]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in LINES if line.count("|") == 5
    ]
    listed = {key.strip("`"): default for key, default, *_ in rows if key not in ("key", "---")}
    assert set(listed) - SECTIONS == set(expected)
    for key, defaults in expected.items():
        if len(defaults) > 1:  # a section that has a default has a default type
            defaults.discard("required")
        assert all(default in listed[key] for default in defaults), key


def test_every_step_is_there_with_its_parameters() -> None:
    for name, step in STEPS.items():
        for parameter, (_, default) in step.parameters.items():
            assert f"`{parameter}`" in row(f"`{name}`")
            assert default is None or f"= {shown(default)}" in row(f"`{name}`")


def test_every_loss_and_head_is_there_with_its_options() -> None:
    dense = [kind for kind in TASKS if kind != "detection"]
    heads = {", ".join(dense): dense, "detection": ["detection"]}
    for start, kinds in heads.items():
        (line,) = (line for line in LINES if line.startswith(f"| {start} | `channels`"))
        for kind in kinds:
            for option, default in options(
                TASKS[kind].head.build, "spec", "in_channels", "strides"
            ).items():
                assert f"`{option}` = {shown(default)}" in line
    for kind, entry in TASKS.items():
        for name, loss in entry.losses.items():
            for option, default in options(loss, "num_classes").items():
                assert f"`{option}`" in row(f"{kind} | `{name}`")
                assert f"= {shown(default)}" in row(f"{kind} | `{name}`")


def test_every_method_is_there_with_its_options() -> None:
    methods: dict[str, Callable[..., Any]] = {**WEIGHTINGS, **BALANCERS}
    del methods["constant"]  # the one with keys in the schema
    for name, method in methods.items():
        for option, default in options(method, "num_tasks").items():
            assert f"`{option}` = {plain(default)}" in row(f"`{name}`"), (name, option)


def test_every_packing_is_there_with_its_options() -> None:
    assert set(PACKINGS) == set(get_args(PackedData.model_fields["type"].annotation))
    for name, reader in PACKINGS.items():
        for option, default in options(reader, "root", "split", "tasks").items():
            assert f"`{option}` = {shown(default)}" in row(f"`{name}`"), (name, option)


def plain(value: Any) -> str:
    """As the page shows it: no exponents."""
    return f"{value:f}".rstrip("0") if isinstance(value, float) and value < 0.01 else shown(value)
