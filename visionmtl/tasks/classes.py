"""Kinds whose tasks have classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from visionmtl.tasks.base import Kind


@dataclass(frozen=True)
class ClassKind(Kind):
    """A kind with ``classes``: names, whose positions are the class ids.

    Raises:
        ValueError: missing or repeated classes.
    """

    stated: ClassVar[tuple[str, ...]] = ("classes",)

    classes: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_classes(self.classes, self.name))

    def describe(self) -> str:
        return f"{len(self.classes)} classes"

    def united(self, other: Self) -> Self:
        return type(self)(united_classes(self.classes, other.classes))

    def facts(self) -> dict[str, Any]:
        return {"classes": self.classes, "num_classes": len(self.classes)}


def united_classes(some: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The classes of both, each once."""
    return tuple(dict.fromkeys((*some, *others)))


def check_classes(classes: Any, kind: str) -> tuple[str, ...]:
    """The names of classes as a tuple.

    Raises:
        ValueError: no list of names, no class, or a repeated one.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a list of names, got {classes!r}")
    if not classes:
        raise ValueError(f"a {kind} task needs at least one class")
    names = tuple(classes)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"repeated classes {repeated}")
    return names
