"""What a misspelt key of a config may have meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from visionmtl._faults import UNKNOWN_KEY, Place, closest, dotted
from visionmtl.config.schema import Config
from visionmtl.config.sections import Choice, Section


def with_hint(place: Place, problem: str, values: Any) -> str:
    """The problem at a place; of an unknown key also what may have been meant."""
    if problem != UNKNOWN_KEY:
        return problem
    section, value = _section_at(Config, values, place[:-1])
    name = str(place[-1])
    known = list(_shape(section, value).model_fields)
    likely = closest(name, known)
    if likely:
        return f"{problem}{likely}"
    if issubclass(section, Choice):
        choices = section.with_option(name)
        if choices:
            owners = " or ".join(choices)
            key = dotted(place[:-1])
            other = f"another type: {key}={{type: NAME}}"
            return f"{problem}; it is an option of type {owners}; {other}"
    for key in _keys(Config):
        if key.rpartition(".")[2] == name and key != dotted(place):
            return f"{problem}; did you mean {key!r}?"
    return f"{problem}; known: {', '.join(known)}"


def _section_at(annotation: Any, value: Any, place: Place) -> tuple[type[BaseModel], Any]:
    """The section at a place, and its value."""
    section = _section_in(annotation)
    assert section is not None, f"no section at {place}"
    if not place:
        return section, value
    first, *rest = place
    field = _shape(section, value).model_fields[str(first)]
    inner = value[first]
    depth = _containers(field.annotation)
    for part in rest[:depth]:  # task names and positions in lists
        inner = inner[part]
    return _section_at(field.annotation, inner, tuple(rest[depth:]))


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The first section that an annotation names, alone, in a list, a mapping or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        section = _section_in(part)
        if section is not None:
            return section
    return None


def _containers(annotation: Any) -> int:
    """How many keys or positions lie between a field and the sections in it."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return _containers(arguments[0])
    if origin in (list, dict, Mapping):
        return 1 + _containers(arguments[-1])
    return max((_containers(part) for part in arguments), default=0)


def _shape(section: type[BaseModel], value: Any) -> type[BaseModel]:
    if issubclass(section, Section):
        return section.shape(value)
    return section


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config with its default choices; those in a list or under a task have no
    fixed name.
    """
    for name, field in _shape(section, {}).model_fields.items():
        yield prefix + name
        inner = _section_in(field.annotation)
        if inner is not None and not _containers(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")
