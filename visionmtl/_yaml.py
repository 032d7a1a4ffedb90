"""The one reader of YAML files: plain values only, and every mistake of the user becomes one line.

Read are mappings with string keys, lists, strings, numbers, booleans and null. Refused are anchors,
tags, interpolation, repeated keys, deep nesting and large files: nothing can run code, fill the
memory or hide a value.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import AliasEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from visionmtl._faults import shown

MAX_BYTES = 128_000
"""Larger files are refused before they are parsed; one of this size takes at most 4 seconds."""
MAX_DEPTH = 32
MAX_LINE = 600
MAX_LINES = 20

_PREFIX = "tag:yaml.org,2002:"
# YAML 1.2 without the other bases: 010, 0x10, 1_000, 1:30 and dates are strings, not surprises.
_SCALARS = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)"),
    "float": re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
        r"|[-+]?\.inf|\.nan"
    ),
}
_TABBED = re.compile(r" *\t")


class ConfigError(ValueError):
    """Mistakes in a YAML file or in overrides, each in one printable line."""

    def __init__(self, *lines: str) -> None:
        shortened = [_printable(line) for line in lines[:MAX_LINES]]
        left = len(lines) - len(shortened)
        if left:
            shortened.append(f"and {left} more mistakes")
        super().__init__("\n".join(shortened))


class _Resolver(VersionedResolver):
    """The type of a plain scalar."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is not ScalarNode or not implicit[0]:
            return super().resolve(kind, value, (False, True))
        for name, pattern in _SCALARS.items():
            if pattern.fullmatch(value):
                return Tag(suffix=_PREFIX + name)
        return Tag(suffix=f"{_PREFIX}str")


class _Composer(Composer):
    """A composer without anchors, tags, interpolation and endless nesting."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        problem = ""
        if isinstance(event, AliasEvent) or event.anchor is not None:
            problem = "anchors (&) and aliases (*) are not allowed"
        elif event.ctag is not None:
            problem = "tags (!) are not allowed"
        elif isinstance(event, ScalarEvent) and "${" in event.value:
            problem = "interpolation (${...}) is not allowed"
        elif self.depth >= MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} nested levels"
        if problem:
            raise _fault(event.start_mark, problem)
        return super().compose_node(parent, index)


class _Representer(SafeRepresenter):
    """Writes what ``_Composer`` reads: mappings in block style, lists of scalars in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_items(self, items: list[Any]) -> SequenceNode:
        nested = any(isinstance(item, dict | list) for item in items)
        return self.represent_sequence(f"{_PREFIX}seq", items, flow_style=not nested)


_Representer.add_representer(list, _Representer.represent_items)


def load_yaml(path: Path | str) -> Any:
    """The values of a YAML file in UTF-8; None where it is empty.

    Raises:
        ConfigError: unreadable or larger than ``MAX_BYTES``, or YAML that is not plain.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: a YAML file has at most {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The values of a YAML text; ``source`` is the name used in messages.

    Raises:
        ConfigError: not YAML, or not plain; names line and column.
    """
    try:
        node = _yaml().compose(text)
        if node is None:
            return None
        return _value(node)
    except MarkedYAMLError as error:
        raise ConfigError(f"{source}: {_described(error, text)}") from None
    except ReaderError as error:
        problem = f"character {error.position} is not allowed in YAML"
        raise ConfigError(f"{source}: {problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML ({error})") from None
    except (ValueError, OverflowError) as error:
        # An integer of 5000 digits, a character beyond Unicode.
        raise ConfigError(f"{source}: a value is out of range: {error}") from None


def dump_yaml(values: Any) -> str:
    """Plain values as a text from which ``parse_yaml`` gives back equal ones; the order of keys is
    kept.
    """
    text = StringIO()
    _yaml().dump(values, text)
    return text.getvalue()


def _yaml() -> Any:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.Resolver = _Resolver
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    return yaml


def _value(node: Node) -> Any:
    if isinstance(node, SequenceNode):
        return [_value(item) for item in node.value]
    if not isinstance(node, MappingNode):
        return _scalar(node)
    values: dict[str, Any] = {}
    for key_node, item in node.value:
        key = _value(key_node)
        if not isinstance(key, str):
            problem = f"key {shown(key)} is not a string; put it in quotes"
            raise _fault(key_node.start_mark, problem)
        if key in values:
            raise _fault(key_node.start_mark, f"duplicate key {shown(key)}")
        values[key] = _value(item)
    return values


def _scalar(node: Node) -> Any:
    kind = str(node.tag).removeprefix(_PREFIX)
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() == "true"
    if kind == "int":
        return int(node.value)
    if kind == "float":
        return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))
    return node.value


def _described(error: MarkedYAMLError, text: str) -> str:
    """Line, column and problem of a syntax error."""
    mark = error.problem_mark
    problem = error.problem or "not valid YAML"
    if problem.startswith("but "):
        problem = f"{error.context} {problem}"
    if mark is None:
        return problem
    line_start = text.rfind("\n", 0, mark.index) + 1
    if _TABBED.match(text, line_start) or r"'\t'" in problem:
        problem = "tab found; YAML is indented with spaces"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _fault(mark: StringMark, problem: str) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=mark)


def _printable(line: str) -> str:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line[:2000])
    if len(text) > MAX_LINE:
        return f"{text[: MAX_LINE - 3]}..."
    return text
