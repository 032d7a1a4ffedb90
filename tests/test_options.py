from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from torch import nn

from visionmtl._options import (
    Count,
    Fraction,
    Interval,
    NonNegative,
    PictureSize,
    Positive,
    Within,
    check_options,
    checking,
    given_names,
    options_model,
)


class Method:
    """A method with an option of every type."""

    def __init__(
        self,
        num_tasks: int,
        *,
        rate: Positive,
        share: Fraction = 0.5,
        count: Count = 3,
        flag: bool = False,
        mode: Literal["a", "b"] = "a",
        numbers: Sequence[NonNegative] | None = None,
        by_task: Mapping[str, Fraction] = {},
        size: PictureSize = (4, 4),
        gamma: Annotated[Interval, Within(0.1, 10)] = (0.5, 2.0),
        pair: tuple[float, float] = (0.0, 1.0),
        either: int | str = 1,
        below: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        self.given = dict(locals())


@dataclass(frozen=True)
class Data:
    """Every field is an option."""

    size: int
    labels: dict[str, Fraction] = field(default_factory=dict)


class Free:
    """Passes further options on."""

    def __init__(self, *, name: str, **options: Any) -> None:
        self.options = options


class Silent(nn.Module):
    """Has the constructor of ``nn.Module``, which takes anything."""


class Made:
    """Its parts are made first."""

    @classmethod
    def build(cls, levels: Any, *, alpha: Fraction = 0.9) -> Made:
        made = cls()
        made.alpha = alpha  # type: ignore[attr-defined]
        return made


def test_what_the_user_gives_and_what_the_program() -> None:
    assert given_names(Method) == ["num_tasks"]
    assert given_names(Made) == ["levels"]
    assert given_names(Data) == given_names(Free) == given_names(Silent) == []
    assert list(options_model(Made).model_fields) == ["alpha"]
    assert list(options_model(Data).model_fields) == ["size", "labels"]
    assert list(options_model(Silent).model_fields) == []


def test_values_are_converted_to_their_types() -> None:
    options = {"rate": 1, "size": [2, 3], "gamma": [1, 2], "pair": [1, 2], "numbers": [0, 1]}
    checked = check_options(Method, options)
    assert checked == {
        "rate": 1.0,
        "size": (2, 3),
        "gamma": (1.0, 2.0),
        "pair": (1.0, 2.0),
        "numbers": [0.0, 1.0],
    }
    assert isinstance(checked["rate"], float)
    assert options_model(Data)(size=1).labels == {}  # type: ignore[attr-defined, call-arg]
    assert check_options(Free, {"name": "a", "b": [1, {"c": None}]})["b"] == [1, {"c": None}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "rate: required option is missing"),
        ({"rate": 0}, "rate: must be > 0, got 0"),
        ({"rate": "0.1"}, "rate: must be a number, got '0.1'"),
        ({"rate": True}, "rate: must be a number, got true"),
        ({"rate": float("nan")}, "rate: must be finite, got nan"),
        ({"rate": 1, "raet": 2}, "raet: unknown option; known: rate, share"),
        ({"rate": 1, "share": 2}, "share: must be <= 1, got 2"),
        ({"rate": 1, "count": 10**30}, f"count: must be <= 1000000, got {10**30}"),
        ({"rate": 1, "count": 1.5}, "count: must be an integer, got 1.5"),
        ({"rate": 1, "flag": 1}, "flag: must be true or false, got 1"),
        ({"rate": 1, "mode": "c"}, "mode: unknown value 'c'; known: a, b"),
        ({"rate": 1, "numbers": 3}, "numbers: must be a list, got 3"),
        ({"rate": 1, "numbers": [1, -1]}, "numbers.1: must be >= 0, got -1"),
        ({"rate": 1, "by_task": {"a": 2}}, "by_task.a: must be <= 1, got 2"),
        (
            {"rate": 1, "size": [0, 1]},
            "size: must be two integers [height, width] in 1..16384, got",
        ),
        ({"rate": 1, "gamma": [2, 1]}, "gamma: must be two numbers [lo, hi] with 0.1 <= lo"),
        ({"rate": 1, "either": 1.5}, "either: must be an integer or a string, got 1.5"),
        ({"rate": 1, "below": 1}, "below: must be < 1, got 1"),
        ({"rate": 0, "share": 2}, "rate: must be > 0, got 0; share: must be <= 1, got 2"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        check_options(Method, options)
    assert "\n" not in str(caught.value)


def test_options_that_nobody_named() -> None:
    with pytest.raises(ValueError, match=r"^a: unknown option; known: none$"):
        check_options(Silent, {"a": 1})
    with pytest.raises(ValueError, match=r"^b: options must be finite, got inf"):
        check_options(Free, {"name": "a", "b": float("inf")})


def test_a_constructor_checks_its_options_also_from_python() -> None:
    checked = checking(type("Checked", (Method,), {"__init__": Method.__init__}))
    assert checked(2, rate=1).given["rate"] == 1.0
    with pytest.raises(ValueError, match=r"^Checked: rate: must be > 0, got 0$"):
        checked(2, rate=0)
    data: Any = checking(dataclass(frozen=True)(type("D", (), {"__annotations__": {"size": int}})))
    assert data(3).size == 3
    with pytest.raises(ValueError, match=r"^D: size: must be an integer, got 'x'$"):
        data("x")


def test_a_type_that_no_file_holds_is_named() -> None:
    class Opaque:
        pass

    def init(self: Any, *, value: Any = None) -> None: ...

    init.__annotations__["value"] = Opaque
    with pytest.raises(TypeError, match="an option has no type of a file"):
        options_model(type("Wrong", (), {"__init__": init}))
