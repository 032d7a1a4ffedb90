"""What is wrong with values, in one line each: where, what was expected, and what came.

Configs, ``dataset.yaml``, JSON files and the options of a class are all checked by pydantic; here
its errors become sentences.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
"""Keys of mappings and positions in lists that lead to a value."""

_MISSING = (
    "missing",
    "missing_argument",
    "missing_keyword_only_argument",
    "union_tag_not_found",
)
UNKNOWN_KEY = "unknown key"
MISSING_KEY = "required key is missing"
_UNKNOWN_KEYS = ("extra_forbidden", "unexpected_keyword_argument")
_EXPECTED = {
    "int_type": "an integer",
    "int_parsing_size": "an integer that is not so large",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "list_type": "a list",
    "tuple_type": "a list",
    "sequence_str": "a list",
    "Sequence": "a list",
    "Mapping": "a mapping",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
    "finite_number": "finite",
    "none_required": "null",
}
_FOUND = "found"
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def problems(error: ValidationError, values: Any) -> dict[Place, str]:
    """The place of every fault in ``values``, and what is wrong there.

    Unknown keys come first: a misspelt key is also reported as a missing one.
    """
    found: dict[Place, list[str]] = {}
    faults = error.errors(include_url=False)
    for fault in sorted(faults, key=lambda fault: fault["type"] not in _UNKNOWN_KEYS):
        texts = found.setdefault(_place_of(fault, values), [])
        texts.append(_explain(fault))
    return {place: _alternatives(texts) for place, texts in found.items()}


def _place_of(fault: ErrorDetails, values: Any) -> Place:
    """Where a fault is, in the keys of ``values``.

    Inside a union pydantic adds the alternative to the location; the user's values have no such
    key.
    """
    place: list[str | int] = []
    loc = fault["loc"]
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if _has(values, part):
            values = values[part]
            place.append(part)
        elif last and fault["type"] in (*_MISSING, *_UNKNOWN_KEYS, _FOUND):
            place.append(part)
    if fault["type"].startswith("union_tag"):
        place.append(fault["ctx"]["discriminator"].strip("'"))
    return tuple(place)


def _explain(fault: ErrorDetails) -> str:
    """What was expected and what came."""
    kind = fault["type"]
    value = fault["input"]
    context = fault.get("ctx", {})
    if kind in _UNKNOWN_KEYS:
        return UNKNOWN_KEY
    if kind in _MISSING:
        return MISSING_KEY
    if kind == "json_invalid":
        return f"not valid JSON ({context['error']})"
    if kind == "literal_error":
        return _unknown_literal(value, context["expected"])
    if kind == "union_tag_invalid":
        return _unknown_literal(context["tag"], context["expected_tags"])
    if kind in ("value_error", "assertion_error", _FOUND):
        problem = str(context["error"])
        if problem.startswith("must"):
            return f"{problem}, got {shown(value)}"
        return problem
    return f"must be {_expected(fault)}, got {shown(value)}"


def dotted(place: Iterable[str | int]) -> str:
    """A place as it is written in messages and overrides: ``data.sets.0.root``."""
    return ".".join(map(str, place))


def shown(value: Any) -> str:
    """A value as the user wrote it, cut to a readable length."""
    if isinstance(value, tuple):
        value = list(value)
    text = repr(value)
    if value is None:
        text = "null"
    if isinstance(value, bool):
        text = text.lower()
    if len(text) > 60:
        return f"{text[:57]}..."
    return text


def closest(name: Any, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing where no known name is close."""
    if not isinstance(name, str):
        return ""
    close = difflib.get_close_matches(name, list(known), n=1)
    if not close:
        return ""
    return f"; did you mean {close[0]!r}?"


def unknown_name(name: Any, known: Iterable[str]) -> str:
    """What is said of a value that is none of the known names."""
    names = list(known)
    return f"unknown value {shown(name)}; known: {', '.join(names)}{closest(name, names)}"


def unknown_key(name: str, known: Iterable[str]) -> str:
    """What is said of a key that is none of the known ones."""
    names = list(known)
    return f"{UNKNOWN_KEY}; known: {', '.join(names)}{closest(name, names)}"


def fault_at(place: Place, problem: str, value: Any) -> ValidationError:
    """A fault that a validator found below the value that it checks."""
    error = PydanticCustomError(_FOUND, "{error}", {"error": problem})
    details = InitErrorDetails(type=error, loc=place, input=value)
    return ValidationError.from_exception_data("config", [details])


def plain(value: Any) -> Any:
    """The value, made of finite numbers, strings, booleans, null, lists and mappings alone: what
    YAML and checkpoints carry.

    Raises:
        ValueError: something else in it.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"option names must be strings, got {key!r}")
            plain(item)
    elif isinstance(value, list):
        for item in value:
            plain(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"options must be finite, got {value}")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError(f"options must be plain values, got {type(value).__name__}")
    return value


def _expected(fault: ErrorDetails) -> str:
    kind = fault["type"]
    context = fault.get("ctx", {})
    signs = [name for name in _BOUNDS if name in context]
    if signs:
        return " ".join(f"{_BOUNDS[name]} {context[name]:.12g}" for name in signs)
    if kind in ("too_short", "too_long"):
        return _length(context)
    kind = context.get("class", kind)  # of an abstract class, its name
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "string_pattern_mismatch":
        return f"a string that matches {context['pattern']}"
    return fault["msg"].removeprefix("Input should be ")


def _unknown_literal(value: Any, expected: str) -> str:
    names = re.findall(r"'(.*?)'", expected)
    if names:
        return unknown_name(value, names)
    return f"must be {expected}, got {shown(value)}"


def _length(context: Mapping[str, Any]) -> str:
    least = context.get("min_length")
    most = context.get("max_length")
    if least is not None:
        return f"at least {least} long"
    return f"at most {most} long"


def _alternatives(texts: list[str]) -> str:
    """One sentence of those about a value that fits none of several types."""
    wanted = [text.partition(", got ")[0].removeprefix("must be ") for text in texts]
    if len(texts) == 1 or not all(text.startswith("must be ") for text in texts):
        return texts[0]
    got = texts[0].partition(", got ")[2]
    return f"must be {' or '.join(dict.fromkeys(wanted))}, got {got}"


def _has(values: Any, part: str | int) -> bool:
    if isinstance(values, Mapping):
        return part in values
    if isinstance(values, list | tuple):
        return isinstance(part, int) and part < len(values)
    return False
