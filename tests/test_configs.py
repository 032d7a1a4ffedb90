"""The configs that ship: each is complete, valid, and has its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visionmtl._yaml import parse_yaml
from visionmtl.config.load import dump_config, load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))

OPTIONS = (".losses.", ".weighting.", ".balancing.", ".data.transforms.")
"""The options of what a config chooses may stay at their defaults: they are not of the run's own
keys.
"""


def missing(full: Any, own: Any, path: str = "") -> list[str]:
    if not isinstance(full, dict):
        return []
    if not isinstance(own, dict):
        return [path]
    found = [f"{path}.{key}" for key in full if key not in own]
    return found + [
        m for key in full if key in own for m in missing(full[key], own[key], f"{path}.{key}")
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_complete_and_has_a_record(path: Path) -> None:
    text = path.read_text()
    full = parse_yaml(dump_config(load_config(path)), "dump")
    absent = missing(full, parse_yaml(text, path.name))
    assert [key for key in absent if not key.startswith(OPTIONS)] == []
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    for word in ("Command:", "Hardware:", "Time:", "Validation:"):
        assert word in header, f"{path.name}: the record lacks {word}"


def test_there_are_configs() -> None:
    assert CONFIGS
