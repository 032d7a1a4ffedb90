"""``dataset.yaml``: what it may hold follows from the kinds of tasks and their codecs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from visionmtl._faults import fault_at, unknown_key
from visionmtl._files import validated
from visionmtl._options import options_model
from visionmtl._yaml import dump_yaml, load_yaml
from visionmtl.data.coco import positions
from visionmtl.tasks import KINDS
from visionmtl.tasks.codec import Codec
from visionmtl.types import Camera, TaskSpec

NAME = "dataset.yaml"


@dataclass(frozen=True)
class StoredTask:
    """A task and how its labels are stored."""

    spec: TaskSpec
    codec: Codec

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.spec.name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        """An unknown key is named before one that is missing: it is often its misspelling."""
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise fault_at((key,), unknown_key(key, cls.model_fields), values[key])
        return values


class _Entry(_Strict):
    """A task in ``dataset.yaml``: name, kind, and the options of the kind and of its codec."""

    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    kind: str

    def task(self) -> StoredTask:
        """What the entry says."""
        kind = KINDS[self.kind]
        spec = TaskSpec.from_dict({"name": self.name, "kind": self.kind, **self._options(kind)})
        try:
            return StoredTask(spec, kind.codec(spec.kind, **self._options(kind.codec)))
        except ValueError as error:
            raise ValueError(f"task {self.name!r}: {error}") from None

    def _options(self, cls: type) -> dict[str, Any]:
        return {name: getattr(self, name) for name in options_model(cls).model_fields}

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.task()
        return self


class _Camera(_Strict):
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Description(_Strict):
    """What ``dataset.yaml`` holds, but for the tasks."""

    name: str
    camera: _Camera | None = None
    licence: str = ""

    def stored_tasks(self) -> list[StoredTask]:
        """The tasks, in order."""
        entries: list[_Entry] = getattr(self, "tasks")  # noqa: B009
        return [entry.task() for entry in entries]


def read_description(path: Path) -> Description:
    """Read a ``dataset.yaml``.

    Raises:
        ValueError: one line with the file, the key, what was expected and what came.
    """
    description = validated(_schema(tuple(KINDS.items())), load_yaml(path), path)
    positions([task.name for task in description.stored_tasks()], path, "task")
    return description


def write_description(
    path: Path, name: str, tasks: list[StoredTask], camera: Camera | None = None
) -> None:
    """Write a ``dataset.yaml`` that ``read_description`` gives back."""
    entries = [task.spec.to_dict() | task.codec.options() for task in tasks]
    values: dict[str, Any] = {"name": name, "tasks": entries}
    if camera is not None:
        values["camera"] = dict(vars(camera))
    path.write_text(dump_yaml(values), encoding="utf-8")


@functools.cache
def _schema(kinds: tuple[tuple[str, Any], ...]) -> type[Description]:
    """The schema for the kinds that are registered at the moment."""
    entries: Any = Union[tuple(_entry(name, kind) for name, kind in kinds)]  # noqa: UP007
    tasks: Any = list[Annotated[entries, Field(discriminator="kind")]]
    return create_model("Description", __base__=Description, tasks=(tasks, Field(min_length=1)))


def _entry(name: str, kind: Any) -> type[BaseModel]:
    """The schema of the tasks of a kind."""
    options = options_model(kind)
    bases: Any = (_Entry, options_model(kind.codec), options)
    fields: dict[str, Any] = {"kind": (Literal[name], ...)}
    for field in kind.stated:
        info = options.model_fields[field]
        fields[field] = (Annotated[info.annotation, *info.metadata, Field()], ...)
    model: type[BaseModel] = create_model(name, __base__=bases, **fields)
    return model
