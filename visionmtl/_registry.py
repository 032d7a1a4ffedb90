"""Registries: the classes among which a config chooses, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from visionmtl._faults import closest
from visionmtl._options import C, check_options, checking, given_names

T = TypeVar("T")


class Registry(Mapping[str, type[T]]):
    """Name -> class. The options of a choice are those of its constructor, see ``_options``.

    Args:
        what: the thing that is chosen, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """A decorator that gives a class its name.

        Raises:
            ValueError: another class has the name.
        """

        def add(cls: C) -> C:
            taken = self._classes.get(name)
            if taken is not None:
                raise ValueError(
                    f"{self.what} {name!r}: {taken.__qualname__} has this name already"
                )
            self._classes[name] = checking(cls)
            return cls

        return add

    def unregister(self, name: str) -> None:
        """Take a name out; for tests that define a class."""
        del self._classes[name]

    def find(self, name: str) -> type[T]:
        """The class of a name.

        Raises:
            ValueError: unknown name; lists the known ones.
        """
        if name in self._classes:
            return self._classes[name]
        hint = closest(name, self)
        raise ValueError(f"unknown {self.what} {name!r}; known: {', '.join(self)}{hint}")

    def names_for(self, kind: str, default: str = "") -> list[str]:
        """The names of the classes that serve a kind of task.

        Args:
            kind: name of the kind; the classes have it in ``kinds``.
            default: name of the class that the kind itself asks for, which need not.
        """
        found = []
        for name, cls in self._classes.items():
            if name == default or kind in getattr(cls, "kinds", ()):
                found.append(name)
        return found

    def name_of(self, cls: type) -> str:
        """The name of a class."""
        names = [name for name, known in self._classes.items() if known is cls]
        assert names, f"{cls.__qualname__} is not a registered {self.what}"
        return names[0]

    def make(self, name: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> T:
        """An object of the class of a name.

        Args:
            name: of the class.
            given: what the program can give; the constructor takes of it what it asks for.
            options: of the user.

        Raises:
            ValueError: unknown name or option, a value of another type or outside its range.
        """
        cls = self.find(name)
        checked = check_options(cls, options)
        wanted = {key: given[key] for key in given_names(cls) if key in given}
        constructor: Callable[..., T] = getattr(cls, "build", cls)
        return constructor(**wanted, **checked)

    def __getitem__(self, name: str) -> type[T]:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)
