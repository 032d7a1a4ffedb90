"""Reads, overrides, writes and compares configs; every mistake of the user becomes one line.

YAML text -> plain values (``visionmtl._yaml``) -> ``a.b=c`` overrides (OmegaConf) -> ``Config``
(pydantic).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from visionmtl._yaml import ConfigError, dump_yaml, load_yaml, parse_yaml, shown
from visionmtl.config.schema import Config
from visionmtl.config.sections import Section

_OVERRIDE = re.compile(
    r"(?P<key>[A-Za-z0-9][\w-]*(?:\.[A-Za-z0-9][\w-]*)*)=(?P<value>.*)", re.DOTALL
)
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "finite",
}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_MISSING = object()


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply ``a.b=c`` overrides.

    An override sets its key to exactly its value, read as YAML; a mapping replaces the mapping of
    the file.

    Raises:
        ConfigError: unreadable file, YAML that is not plain, a key or a value outside the schema.
    """
    return _validated(load_yaml(path), str(path), overrides)


def parse_config(text: str, source: str = "config", overrides: Sequence[str] = ()) -> Config:
    """``load_config`` for text that is already in memory; ``source`` is the name used in
    messages.
    """
    return _validated(parse_yaml(text, source), source, overrides)


def _validated(values: Any, source: str, overrides: Sequence[str]) -> Config:
    if values is None:
        raise ConfigError(source, "empty; a config needs at least 'data' and 'model'")
    if not isinstance(values, dict):
        raise ConfigError(source, f"a config is a mapping of keys to values, got {shown(values)}")
    values, overridden = _override(values, overrides)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _config_error(error, source, overridden) from None


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

    def compare(key: str, old: Any, new: Any) -> Iterator[str]:
        if any(_covers(parent, key) for parent in allowed):
            return
        if (
            _are_mappings(old) and _are_mappings(new) and len(old) == len(new)
        ):  # the sets of a mixture
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if isinstance(old, dict) and isinstance(new, dict):
            for name in old | new:
                child = f"{key}.{name}" if key else name
                yield from compare(child, old.get(name, _MISSING), new.get(name, _MISSING))
        elif old != new:
            yield f"{key}: {_side_text(old)} -> {_side_text(new)}"

    return list(compare("", a.model_dump(mode="json"), b.model_dump(mode="json")))


def _are_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _side_text(value: Any) -> str:
    return "(not set)" if value is _MISSING else repr(value)


def _covers(parent: str, key: str) -> bool:
    return key == parent or key.startswith(f"{parent}.")


def _override(values: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values with the overrides applied, and the keys that they set."""
    config, keys = OmegaConf.create(values), []
    for text in overrides:
        match = _OVERRIDE.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"override {shown(text)}", "expected key=value, such as trainer.epochs=20"
            )
        key = match["key"]
        value = parse_yaml(match["value"], f"override {key}")
        try:
            OmegaConf.update(config, key, value, merge=False)
        except (OmegaConfBaseException, ValueError, IndexError) as error:
            raise ConfigError(
                f"override {key}", f"cannot be set: {str(error).splitlines()[0]}"
            ) from None
        keys.append(key)
    merged: Any = OmegaConf.to_container(config)
    return merged, keys


def _config_error(error: ValidationError, source: str, overridden: list[str]) -> ConfigError:
    # Unknown keys first: a misspelt key is also reported as a missing one.
    errors = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    key, problem = _explain(errors[0])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if any(_covers(key, name) or _covers(name, key) for name in overridden):
        return ConfigError(f"override {key}", problem + more)
    return ConfigError(source, f"{key}: {problem}{more}")


def _explain(error: ErrorDetails) -> tuple[str, str]:
    """The dotted key and the problem of one pydantic error."""
    kind, loc, value, context = error["type"], error["loc"], error["input"], error.get("ctx", {})
    keys, sections = _locate(loc)
    key = ".".join(keys)
    if kind == "extra_forbidden":
        parents, (section,) = _locate(loc[:-1])
        key = ".".join([*parents, str(loc[-1])])
        return key, _unknown_key(key, section)
    if kind == "missing":
        return key, "required key is missing"
    if kind == "union_tag_not_found":
        return f"{key}.type", f"required key is missing; known: {', '.join(_types(sections))}"
    if kind == "union_tag_invalid":
        return f"{key}.type", _unknown_name(value["type"], _types(sections))
    if kind == "literal_error":
        return key, _unknown_name(value, re.findall(r"'(.*?)'", context["expected"]))
    if kind == "value_error":
        problem = str(context["error"])
        return key, f"{problem}, got {shown(value)}" if problem.startswith("must") else problem
    bound = " ".join(
        f"{sign} {context[name]:.12g}" for name, sign in _BOUNDS.items() if name in context
    )
    return key, f"must be {_EXPECTED.get(kind) or bound or 'valid'}, got {shown(value)}"


def _locate(loc: tuple[int | str, ...]) -> tuple[list[str], list[type[Section]]]:
    """The keys of a pydantic location and the sections that may stand there.

    Inside a union pydantic adds the chosen ``type`` to the location; the user's file has no such
    key.
    """
    keys: list[str] = []
    sections: list[type[Section]] = [Config]
    for part in loc:
        if isinstance(part, int):  # the position in a list
            keys.append(str(part))
            continue
        if len(sections) > 1:
            sections = [section for section in sections if part in _types([section])]
            continue
        keys.append(str(part))
        field = sections[0].model_fields.get(str(part)) if sections else None
        sections = _sections(field.annotation) if field else []
    return keys, sections


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that an annotation names, alone or in a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _types(sections: list[type[Section]]) -> list[str]:
    return [
        name for section in sections for name in get_args(section.model_fields["type"].annotation)
    ]


def _schema_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if (
            get_origin(field.annotation) is not list
        ):  # a key in a list has a position, which a hint cannot know
            for child in _sections(field.annotation):
                yield from _schema_keys(child, f"{prefix}{name}.")


def _unknown_key(key: str, section: type[Section]) -> str:
    name, known = key.rpartition(".")[2], list(section.model_fields)
    elsewhere = [
        full for full in _schema_keys(Config) if full.rpartition(".")[2] == name and full != key
    ]
    likely = difflib.get_close_matches(name, known, n=1) or elsewhere
    return "unknown key; " + (
        f"did you mean {likely[0]!r}?" if likely else f"known: {', '.join(known)}"
    )


def _unknown_name(value: Any, known: list[str]) -> str:
    likely = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {likely[0]!r}?" if likely else ""
    return f"unknown value {shown(value)}; known: {', '.join(known)}{hint}"
