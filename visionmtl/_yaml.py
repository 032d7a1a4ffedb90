"""The one reader of YAML files: plain values only, and every mistake of the user becomes one line.

Read are mappings with string keys, lists, strings, numbers, booleans and null. Refused are anchors,
tags, interpolation, repeated keys, deep nesting and large files: nothing can run code, fill the
memory or hide a value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 256_000
"""Larger files are refused before they are parsed; one of this size takes 1 to 3 seconds."""
MAX_DEPTH = 32
MAX_MESSAGE = 600

# YAML 1.1 scalars with the number syntax of YAML 1.2: 1e-3 is a float; 010, 1:30 and dates are
# strings, not surprises.
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        list("yYnNtTfFoO"),
    ),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan",
        list("-+.0123456789"),
    ),
}
_TABBED = re.compile(r" *\t")


class ConfigError(ValueError):
    """A mistake in a YAML file or an override, in one printable line."""

    def __init__(self, source: str, problem: str) -> None:
        line = "".join(
            c if c.isprintable() else repr(c)[1:-1] for c in f"{source}: {problem}"[:2000]
        )
        super().__init__(line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 3]}...")


class _Loader(yaml.SafeLoader):
    """A SafeLoader without anchors, tags, interpolation, repeated keys and endless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        problem = ""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            problem = "anchors (&) and aliases (*) are not allowed"
        elif event.tag is not None:
            problem = "tags (!) are not allowed"
        elif isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            problem = "interpolation (${...}) is not allowed"
        elif self.depth >= MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} nested levels"
        if problem:
            raise _yaml_error(event.start_mark, problem)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _yaml_error(
                    key_node.start_mark, f"key {shown(key)} is not a string; put it in quotes"
                )
            if key in seen:
                raise _yaml_error(key_node.start_mark, f"duplicate key {shown(key)}")
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads: mappings in block style, lists of scalars in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(list, _represent_list)
for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {}
    for _name, (_pattern, _first) in _SCALARS.items():
        _side.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first
        )


def load_yaml(path: Path | str) -> Any:
    """The values of a YAML file in UTF-8; None where it is empty.

    Raises:
        ConfigError: unreadable or larger than ``MAX_BYTES``, or YAML that is not plain.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(str(path), f"a YAML file has at most {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The values of a YAML text; ``source`` is the name used in messages.

    Raises:
        ConfigError: not YAML, or not plain; names line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or "not valid YAML"
        if problem.startswith("but "):
            problem = f"{error.context} {problem}"
        if mark is None:
            raise ConfigError(source, problem) from None
        line_start = text.rfind("\n", 0, mark.index) + 1
        if _TABBED.match(text, line_start) or r"'\t'" in problem:
            problem = "tab found; YAML is indented with spaces"
        raise ConfigError(
            source, f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
        ) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(source, f"character {error.position} is not allowed in YAML") from None
    except (
        ValueError,
        OverflowError,
    ) as error:  # an integer of 5000 digits, a character beyond Unicode
        raise ConfigError(source, f"a value is out of range: {error}") from None


def dump_yaml(values: Any) -> str:
    """Plain values as a text from which ``parse_yaml`` gives back equal ones; the order of keys is
    kept.
    """
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_BYTES)


def shown(value: Any) -> str:
    """A value as the user wrote it, cut to a readable length."""
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


def _yaml_error(mark: yaml.Mark, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
