"""The options of a class: what its constructor takes by keyword, with types, ranges and defaults.

Nothing else lists them. The schema of a config, its error messages and the tables of the
documentation are made from the signature::

    def __init__(self, num_tasks: int, *, alpha: NonNegative = 1.5) -> None: ...

What stands before ``*`` comes from the program, what stands after it is the user's. Of a dataclass
every field is an option.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.errors import PydanticUserError
from pydantic_core import CoreSchema, core_schema

from visionmtl._faults import MISSING_KEY, UNKNOWN_KEY, closest, dotted, plain, problems

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Width = Annotated[int, Field(ge=8, le=1024)]
"""Channels of the maps inside a network."""

Interval = tuple[float, float]
"""[lo, hi]; ``Annotated[Interval, Within(0.1, 10)]`` has bounds."""

C = TypeVar("C", bound=type)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Bounds of two numbers, which a list or a tuple may give."""

    low: float
    high: float

    def check(self, value: Any) -> Any:
        """The pair as a tuple.

        Raises:
            ValueError: what was expected.
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
        return all(type(number) in types and self.low <= number <= self.high for number in value)


class Within(_Pair):
    """Bounds of an ``Interval`` [lo, hi]: low <= lo <= hi <= high."""

    def check(self, value: Any) -> tuple[float, float]:
        if not self._contains(value, int, float) or value[0] > value[1]:
            bounds = f"{self.low:g} <= lo <= hi <= {self.high:g}"
            raise ValueError(f"must be two numbers [lo, hi] with {bounds}")
        return float(value[0]), float(value[1])


class Sides(_Pair):
    """Bounds of the two sides of a size [height, width]."""

    def check(self, value: Any) -> tuple[int, int]:
        if not self._contains(value, int):
            bounds = f"{self.low}..{self.high}"
            raise ValueError(f"must be two integers [height, width] in {bounds}")
        return value[0], value[1]


PictureSize = Annotated[tuple[int, int], Sides(1, 16384)]
"""[height, width] in pixels."""


class Options(BaseModel):
    """The options of one class, checked; unknown names, other types, NaN and inf are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        """YAML and JSON have lists alone."""
        if not isinstance(values, dict):
            return values
        converted = dict(values)
        for name, field in cls.model_fields.items():
            value = converted.get(name)
            if isinstance(value, list) and _names_tuple(field.annotation):
                converted[name] = tuple(value)
        return converted


class FreeOptions(Options):
    """Those of a class that passes further options on."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(plain)]]


@functools.cache
def options_model(cls: type) -> type[Options]:
    """The schema of the options of a class.

    Raises:
        ValueError: an option without a type, or of one that no file can hold: a mistake of who
            wrote the class.
    """
    constructor = _constructor(cls)
    # Inherited fields of a dataclass are annotated in the module of the base.
    annotated: Any = cls if dataclasses.is_dataclass(cls) else constructor
    try:
        hints = get_type_hints(annotated, include_extras=True)
    except NameError as error:
        raise ValueError(f"{cls.__qualname__}: a type of its options: {error}") from error
    fields: dict[str, Any] = {}
    parameters = inspect.signature(constructor).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    base: type[Options] = Options
    # One that takes anything, as that of nn.Module does, names no options.
    if inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        base = FreeOptions
    for parameter in parameters:
        if _is_option(cls, parameter):
            if parameter.name not in hints:
                raise ValueError(f"{cls.__qualname__}: option {parameter.name!r} has no type")
            fields[parameter.name] = (hints[parameter.name], _default(cls, parameter))
    try:
        return create_model(cls.__name__, __base__=base, __doc__=cls.__doc__, **fields)
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        problem = f"{cls.__qualname__}: an option has no type of a file"
        raise ValueError(f"{problem}: {reason}") from error


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
    values = dict(options)
    model = options_model(cls)
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        texts: list[str] = []
        for place, problem in problems(error, values).items():
            if problem == UNKNOWN_KEY:
                known = list(model.model_fields)
                listed = ", ".join(known) or "none"
                problem = f"unknown option; known: {listed}{closest(place[-1], known)}"
            if problem == MISSING_KEY:
                problem = "required option is missing"
            texts.append(f"{dotted(place)}: {problem}")
        raise ValueError("; ".join(texts)) from None
    return {name: getattr(checked, name) for name in values}


def checking(cls: C) -> C:
    """Make the constructor of a class check its options, also when it is called from Python."""
    constructor = _constructor(cls)
    if constructor is object.__init__ or getattr(constructor, "checks_options", False):
        return cls

    @functools.wraps(constructor)
    def checked(self: Any, *args: Any, **keywords: Any) -> Any:
        if dataclasses.is_dataclass(cls):
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


def _constructor(cls: type) -> Callable[..., Any]:
    """``build`` of a class whose parts must be made first, else ``__init__``."""
    build = getattr(cls, "build", None)
    if build is None:
        initialise: Callable[..., Any] = cls.__init__  # type: ignore[misc]
        return initialise
    constructor: Callable[..., Any] = build.__func__
    return constructor


def _is_option(cls: type, parameter: inspect.Parameter) -> bool:
    if parameter.name == "self":
        return False
    if parameter.kind is parameter.KEYWORD_ONLY:
        return True
    return dataclasses.is_dataclass(cls) and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _default(cls: type, parameter: inspect.Parameter) -> Any:
    """The default of an option as pydantic takes it; ``...`` for none."""
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            factory = field.default_factory
            if field.name == parameter.name and factory is not dataclasses.MISSING:
                return Field(default_factory=factory)
    if parameter.default is parameter.empty:
        return ...
    return parameter.default


def _names_tuple(annotation: Any) -> bool:
    """Whether an annotation is a tuple, alone or in a union."""
    if get_origin(annotation) is tuple or annotation is tuple:
        return True
    if get_origin(annotation) in (list, dict, Mapping):
        return False
    return any(_names_tuple(part) for part in get_args(annotation))
