"""What the sections of a config are made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from visionmtl._faults import fault_at, unknown_name
from visionmtl._options import Sides, options_model
from visionmtl._registry import Registry
from visionmtl.types import KINDS

S = TypeVar("S", bound=BaseModel)
Model = type[BaseModel]
Class = type
"""Sections have a field ``type``, which hides the builtin."""


def _task_names(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("must name at least one task; null means every task of the data set")
    repeated = sorted(task for task in set(value) if value.count(task) > 1)
    if repeated:
        raise ValueError(f"repeated tasks: {', '.join(repeated)}")
    return value


Text = Annotated[str, Field(min_length=1)]
Size = Annotated[tuple[int, int], Sides(32, 2048)]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
"""Of epochs, of samples in a batch, ..."""
Share = Annotated[float, Field(ge=0, le=1)]
Tasks = Annotated[list[Text], AfterValidator(_task_names)] | None


class Section(BaseModel):
    """A mapping of the config: unknown keys, values of another type, NaN and infinity are
    errors.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def shape(cls, value: Any) -> Model:
        """The model whose keys ``value`` may have."""
        return cls


class Choice(Section):
    """A class of a registry by name; its options stand beside the section's own keys.

    A plug-in's class is known as soon as it is registered: what may stand in the section is asked
    of the registry when a value comes.

    Attributes:
        type: name of the class.
        options: what its constructor takes, given or by default.
    """

    registry: ClassVar[Registry[Any]]
    default: ClassVar[str | None] = None
    """The name where ``type`` is missing; None: it must be there."""
    options_before: ClassVar[str] = ""
    """The own key before which the options stand in a written config; empty: they stand last."""

    type: str = Field(description="name of the choice")
    options: dict[str, Any]

    @classmethod
    def names(cls) -> list[str]:
        """The names that ``type`` may have."""
        return list(cls.registry)

    @classmethod
    def own_fields(cls, chosen: Class) -> dict[str, Any]:
        """The section's own keys, which all classes have or this one, as ``create_model`` takes
        them.
        """
        fields: dict[str, Any] = {}
        for name, info in cls.model_fields.items():
            if name not in ("type", "options"):
                fields[name] = (info.annotation, info)
        return fields

    @classmethod
    def shape(cls, value: Any) -> Model:
        name = _type_in(value, cls.default)
        if isinstance(name, str) and name in cls.registry:
            return cls.flat_model(cls.registry[name])
        return cls

    @classmethod
    def flat_model(cls, chosen: Any) -> Model:
        """The section's own keys and the options of a class, in the order of a written config."""
        return _flat_model(cls, chosen)

    @classmethod
    def with_option(cls, name: str) -> list[str]:
        """The choices that have an option of this name."""
        found: list[str] = []
        for choice in cls.registry:
            made: Class = cls.registry[choice]
            if name in options_model(made).model_fields:
                found.append(choice)
        return found

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """The section of a mapping.

        Raises:
            ValidationError: everything that is wrong in it.
        """
        name = _type_in(value, cls.default)
        if name is None:
            known = ", ".join(cls.names())
            raise fault_at(("type",), f"required key is missing; known: {known}", name)
        if not isinstance(name, str) or name not in cls.registry:
            raise fault_at(("type",), unknown_name(name, cls.names()), name)
        chosen = cls.registry[name]
        checked = cls.flat_model(chosen).model_validate({**value, "type": name})
        values = dict(checked)
        own = {key: values.pop(key) for key in ["type", *cls.own_fields(chosen)]}
        return cls.model_construct(**own, options=values)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, Mapping):
            return cls.read(value)
        if isinstance(value, cls):
            return value
        return handler(value)

    @model_serializer(mode="plain")
    def flat(self) -> dict[str, Any]:
        """The section as it is written: its options beside its own keys."""
        chosen = self.registry[self.type]
        names = self.flat_model(chosen).model_fields
        values = {**dict(self), **self.options}
        ordered = {name: values[name] for name in names}
        return ordered | self.options  # further ones, which the class passes on


class TaskChoice(Choice):
    """The head or loss of a task; without a type it is the default of the task's kind.

    The kind is known when the data is opened. Before, the options must suit the default of some
    kind.
    """

    role: ClassVar[str]
    """The attribute of a kind that names its default."""

    type: str | None = Field(  # type: ignore[assignment]
        default=None, description="name of the choice"
    )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        if "type" in value:
            return super().read(value)
        fault = _misfit(cls._best_default(value), value)
        if fault is not None:
            raise fault
        return cls.model_construct(type=None, options=dict(value))

    @classmethod
    def shape(cls, value: Any) -> Model:
        if "type" in value:
            return super().shape(value)
        return cls.flat_model(cls._best_default(value))

    @model_serializer(mode="plain")
    def flat(self) -> dict[str, Any]:
        return self.plain()

    def plain(self) -> dict[str, Any]:
        """The type, where there is one, and the options."""
        if self.type is None:
            return dict(self.options)
        return {"type": self.type, **self.options}

    @classmethod
    def _best_default(cls, value: Mapping[str, Any]) -> Class:
        """The default of some kind that the options suit best."""
        defaults: list[Class] = []
        for kind in KINDS.values():
            name = getattr(kind, cls.role)
            if name in cls.registry:
                defaults.append(cls.registry[name])

        def misfit(chosen: Class) -> tuple[int, int]:
            fault = _misfit(chosen, value)
            if fault is None:
                return (0, 0)
            unknown = set(value) - set(options_model(chosen).model_fields)
            return (fault.error_count(), len(unknown))

        return min(defaults, key=misfit)


def default_of(section: type[S], **keys: Any) -> Any:
    """A field whose default is a section with all its defaults, made when a config is loaded."""
    return Field(default_factory=lambda: section.model_validate({}), **keys)


@functools.cache
def _flat_model(section: type[Choice], chosen: type) -> Model:
    options = options_model(chosen)
    described = Field(description=f"which {section.registry.what}")
    own: dict[str, Any] = {"type": (str, described), **section.own_fields(chosen)}
    taken = sorted(set(own) & set(options.model_fields))
    if taken:
        problem = f"{chosen.__qualname__}: {taken} are keys of its section in a config"
        raise ValueError(f"{problem}; give these options other names")
    fields: dict[str, Any] = {}
    extra = {name: (info.annotation, info) for name, info in options.model_fields.items()}
    for name, field in own.items():
        if name == section.options_before:
            fields |= extra
        fields[name] = field
    return create_model(chosen.__name__, __base__=options.__base__, **{**fields, **extra})


def _misfit(chosen: type, value: Mapping[str, Any]) -> ValidationError | None:
    """What is wrong with the options of a class, if anything."""
    try:
        options_model(chosen).model_validate(dict(value))
    except ValidationError as error:
        return error
    return None


def _type_in(value: Any, default: str | None) -> Any:
    """The type that a mapping names."""
    if not isinstance(value, Mapping):
        return default
    return value.get("type", default)
