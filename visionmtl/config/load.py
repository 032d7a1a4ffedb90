"""Reads, overrides, writes and compares configs; every mistake of the user becomes one line.

YAML text -> plain values (``visionmtl._yaml``) -> ``a.b=c`` overrides -> ``Config`` (pydantic).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visionmtl._faults import dotted, problems, shown
from visionmtl._yaml import ConfigError, dump_yaml, load_yaml, parse_yaml
from visionmtl.config.explain import with_hint
from visionmtl.config.schema import Config

_OVERRIDE = re.compile(
    r"(?P<key>[A-Za-z0-9][\w-]*(?:\.[A-Za-z0-9][\w-]*)*)=(?P<value>.*)", re.DOTALL
)
_MISSING = object()


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply ``a.b=c`` overrides.

    An override sets its key to exactly its value, read as YAML; a mapping replaces the mapping of
    the file.

    Raises:
        ConfigError: unreadable file, YAML that is not plain, keys or values outside the schema; a
            line for each mistake.
    """
    return _validated(load_yaml(path), str(path), overrides)


def parse_config(text: str, source: str = "config", overrides: Sequence[str] = ()) -> Config:
    """``load_config`` for text that is already in memory; ``source`` is the name used in
    messages.
    """
    return _validated(parse_yaml(text, source), source, overrides)


def dump_config(config: Config) -> str:
    """The complete config as YAML, in the order of the schema; ``parse_config`` gives back an equal
    config.
    """
    return dump_yaml(config.model_dump(mode="json"))


def config_differences(a: Config, b: Config, allow: Iterable[str] = ()) -> list[str]:
    """Lines ``key: old -> new`` for the dotted keys that differ; a key in ``allow`` covers its
    children.
    """
    allowed = tuple(allow)
    lines = _differences("", a.model_dump(mode="json"), b.model_dump(mode="json"))
    return [line for key, line in lines if not any(_covers(parent, key) for parent in allowed)]


def _validated(values: Any, source: str, overrides: Sequence[str]) -> Config:
    if values is None:
        raise ConfigError(f"{source}: empty; a config needs at least 'data' and 'model'")
    if not isinstance(values, dict):
        problem = f"a config is a mapping of keys to values, got {shown(values)}"
        raise ConfigError(f"{source}: {problem}")
    overridden: list[str] = []
    lines: list[str] = []
    for text in overrides:
        try:
            overridden.append(_override(values, text))
        except ConfigError as error:
            lines.append(str(error))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        for place, problem in problems(error, values).items():
            key = dotted(place)
            explained = with_hint(place, problem, values)
            origin = f"{source}: {key}"
            if any(_covers(key, name) or _covers(name, key) for name in overridden):
                origin = f"override {key}"
            lines.append(f"{origin}: {explained}")
    if lines:
        raise ConfigError(*lines)
    return config


def _override(values: dict[str, Any], text: str) -> str:
    """Apply an override; returns its key."""
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        usage = "expected key=value, such as trainer.epochs=20"
        raise ConfigError(f"override {shown(text)}: {usage}")
    key = match["key"]
    value = parse_yaml(match["value"], f"override {key}")
    *parents, last = key.split(".")
    inner: Any = values
    for name in parents:
        inner = _child(inner, name, key)
    if isinstance(inner, list):
        inner[_position(inner, last, key)] = value
    else:
        inner[last] = value
    return key


def _child(values: dict[str, Any] | list[Any], name: str, key: str) -> Any:
    """The mapping or list under a name; a mapping is made where there is none."""
    inner: Any
    if isinstance(values, list):
        position = _position(values, name, key)
        inner = values[position]
        if not isinstance(inner, dict | list):
            inner = values[position] = {}
        return inner
    inner = values.get(name)
    if not isinstance(inner, dict | list):
        inner = values[name] = {}
    return inner


def _position(values: list[Any], name: str, key: str) -> int:
    if name.isdecimal() and int(name) < len(values):
        return int(name)
    problem = f"cannot be set: no position {name} in a list of {len(values)}"
    raise ConfigError(f"override {key}: {problem}")


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """Every dotted key with different values, and its line."""
    if _are_mappings(old) and _are_mappings(new) and len(old) == len(new):
        old = dict(enumerate(old))  # the sets of a mixture
        new = dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            child = f"{key}.{name}".removeprefix(".")
            yield from _differences(child, old.get(name, _MISSING), new.get(name, _MISSING))
    elif old != new:
        yield key, f"{key}: {_side_text(old)} -> {_side_text(new)}"


def _are_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _side_text(value: Any) -> str:
    if value is _MISSING:
        return "(not set)"
    return repr(value)


def _covers(parent: str, key: str) -> bool:
    return key == parent or key.startswith(f"{parent}.")
