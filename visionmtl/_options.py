"""The options of a class: what its constructor takes by keyword, with types, ranges and defaults.

Nothing else lists them. The schema of a config, its error messages and the tables of the
documentation are made from the signature::

    def __init__(self, num_tasks: int, *, alpha: NonNegative = 1.5) -> None: ...

What stands before ``*`` comes from the program, what stands after it is the user's. Of a dataclass
every field is an option.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
)
from pydantic_core import CoreSchema, ErrorDetails, core_schema

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Width = Annotated[int, Field(ge=8, le=1024)]
"""Channels of the maps inside a network."""


@dataclass(frozen=True)
class _Pair:
    """Bounds of two numbers, which a list or a tuple may give."""

    low: float
    high: float

    def check(self, value: Any) -> Any:
        """The pair as a tuple.

        Raises:
            ValueError: what was expected, and what came.
        """
        raise NotImplementedError

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def _contains(self, value: Any, *types: type) -> bool:
        """Whether it is two numbers of these types within the bounds."""
        if not isinstance(value, list | tuple) or len(value) != 2:
            return False
        for number in value:
            if type(number) not in types or not self.low <= number <= self.high:
                return False
        return True


class Within(_Pair):
    """Bounds of an ``Interval`` [lo, hi]: low <= lo <= hi <= high."""

    def check(self, value: Any) -> tuple[float, float]:
        if not self._contains(value, int, float) or value[0] > value[1]:
            bounds = f"{self.low:g} <= lo <= hi <= {self.high:g}"
            raise ValueError(f"must be two numbers [lo, hi] with {bounds}, got {shown(value)}")
        return float(value[0]), float(value[1])


class Sides(_Pair):
    """Bounds of the two sides of a size [height, width]."""

    def check(self, value: Any) -> tuple[int, int]:
        if not self._contains(value, int):
            bounds = f"{self.low}..{self.high}"
            raise ValueError(
                f"must be two integers [height, width] in {bounds}, got {shown(value)}"
            )
        return value[0], value[1]


Interval = tuple[float, float]
"""[lo, hi]; ``Annotated[Interval, Within(0.1, 10)]`` has bounds."""

PictureSize = Annotated[tuple[int, int], Sides(1, 16384)]
"""[height, width] in pixels."""

C = TypeVar("C", bound=type)
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "finite",
}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


class Options(BaseModel):
    """The options of one class, checked; unknown names, other types, NaN and inf are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


@functools.cache
def options_model(cls: type) -> type[Options]:
    """The schema of the options of a class."""
    constructor = _constructor(cls)
    # Inherited fields of a dataclass are annotated in the module of the base.
    annotated: Any = cls if is_dataclass(cls) else constructor
    hints = get_type_hints(annotated, include_extras=True)
    factories = _default_factories(cls)
    schema: dict[str, Any] = {}
    base = Options
    for parameter in inspect.signature(constructor).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            base = _FreeOptions
        if _is_option(cls, parameter):
            default = parameter.default
            if default is parameter.empty:
                default = ...
            if parameter.name in factories:
                default = Field(default_factory=factories[parameter.name])
            schema[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(cls.__name__, __base__=base, **schema)


def given_names(cls: type) -> list[str]:
    """What the program gives to the constructor of a class, by name, in order."""
    parameters = list(inspect.signature(_constructor(cls)).parameters.values())[1:]
    options = options_model(cls).model_fields
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in named if name not in options]


def check_options(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The given options of a class, converted to their types.

    Raises:
        ValueError: one line with every option that is wrong, what was expected and what came.
    """
    model = options_model(cls)
    try:
        checked = model.model_validate(dict(options))
    except ValidationError as error:
        problems = [f"{place(fault)}: {explain(fault)}" for fault in error.errors()]
        for i, fault in enumerate(error.errors()):
            if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
                problems[i] += did_you_mean(place(fault), model.model_fields)
        raise ValueError("; ".join(problems)) from None
    return {name: getattr(checked, name) for name in options}


def checking(cls: C) -> C:
    """Make the constructor of a class check its options, also when it is called from Python."""
    constructor = _constructor(cls)
    if getattr(constructor, "checks_options", False):
        return cls

    @functools.wraps(constructor)
    def checked(self: Any, *args: Any, **keywords: Any) -> Any:
        if is_dataclass(cls):
            names = list(options_model(cls).model_fields)
            if len(args) > len(names):
                raise TypeError(f"{cls.__name__} takes {len(names)} values, got {len(args)}")
            keywords |= dict(zip(names, args, strict=False))
            args = ()
        given = {name: keywords.pop(name) for name in given_names(cls) if name in keywords}
        try:
            options = check_options(cls, keywords)
        except ValueError as error:
            raise ValueError(f"{cls.__name__}: {error}") from None
        return constructor(self, *args, **given, **options)

    checked.checks_options = True  # type: ignore[attr-defined]
    if "build" in vars(cls):
        cls.build = classmethod(checked)  # type: ignore[attr-defined]
    else:
        cls.__init__ = checked  # type: ignore[misc]
    return cls


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What follows an unknown name in a message: the known ones, and the one it resembles."""
    names = list(known)
    text = f"; known: {', '.join(names) or 'none'}"
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        text += f"; did you mean {close[0]!r}?"
    return text


def place(fault: ErrorDetails) -> str:
    """The dotted name of the option that a fault is about."""
    return ".".join(str(part) for part in fault["loc"])


def explain(fault: ErrorDetails) -> str:
    """What was expected and what came."""
    kind = fault["type"]
    context = fault.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown option"
    if kind == "missing":
        return "required option is missing"
    if kind == "value_error":
        return str(context["error"])
    signs = [name for name in _BOUNDS if name in context]
    bound = " ".join(f"{_BOUNDS[name]} {context[name]:.12g}" for name in signs)
    expected = _EXPECTED.get(kind) or bound or context.get("expected", "valid")
    return f"must be {expected}, got {shown(fault['input'])}"


def shown(value: Any) -> str:
    """A value as the user wrote it, cut to a readable length."""
    text = repr(value)
    if value is None:
        text = "null"
    if isinstance(value, bool):
        text = str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."


class _FreeOptions(Options):
    """Those of a class that passes further options on."""

    model_config = ConfigDict(extra="allow")


def _constructor(cls: type) -> Callable[..., Any]:
    """``build`` of a class whose parts must be made first, else ``__init__``."""
    build = getattr(cls, "build", None)
    constructor: Callable[..., Any] = cls.__init__ if build is None else build.__func__  # type: ignore[misc]
    return constructor


def _default_factories(cls: type) -> dict[str, Callable[[], Any]]:
    """Of the fields of a dataclass whose defaults are made anew."""
    factories: dict[str, Callable[[], Any]] = {}
    if is_dataclass(cls):
        for field in fields(cls):
            if field.default_factory is not MISSING:
                factories[field.name] = field.default_factory
    return factories


def _is_option(cls: type, parameter: inspect.Parameter) -> bool:
    if parameter.name == "self":
        return False
    if parameter.kind is parameter.KEYWORD_ONLY:
        return True
    return is_dataclass(cls) and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
