"""What the sections of a config are made of."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _plain(value: Any) -> Any:
    """Free options travel through YAML and checkpoints: finite numbers, strings, booleans, null,
    lists, mappings.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"option names must be strings, got {key!r}")
            _plain(item)
    elif isinstance(value, list):
        for item in value:
            _plain(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"options must be finite, got {value}")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError(f"options must be plain values, got {type(value).__name__}")
    return value


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be two integers [height, width]")
    return tuple(value)


def _task_names(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("must name at least one task; null means every task of the data set")
    repeated = sorted({task for task in value if value.count(task) > 1})
    if repeated:
        raise ValueError(f"repeated tasks: {', '.join(repeated)}")
    return value


Text = Annotated[str, Field(min_length=1)]
Options = Annotated[dict[str, Any], AfterValidator(_plain)]
Side = Annotated[int, Field(ge=32, le=2048)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Tasks = Annotated[list[Text], AfterValidator(_task_names)] | None


class Section(BaseModel):
    """A mapping of the config: unknown keys, values of another type, NaN and infinity are
    errors.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class MethodSection(Section):
    """A method and its options, which are free here: they are checked against its constructor."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain)]]

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not in the schema."""
        return dict(self.__pydantic_extra__)
