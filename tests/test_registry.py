from __future__ import annotations

import pytest

from visionmtl._options import Positive
from visionmtl._registry import Registry


@pytest.fixture
def shapes() -> Registry[object]:
    registry: Registry[object] = Registry("shape")

    @registry.register("circle")
    class Circle:
        kinds = ("round",)

        def __init__(self, centre: tuple[int, int], *, radius: Positive = 1.0) -> None:
            self.centre = centre
            self.radius = radius

    @registry.register("point")
    class Point:
        pass

    return registry


def test_a_registry_is_a_mapping_of_names(shapes: Registry[object]) -> None:
    assert list(shapes) == ["circle", "point"]
    assert len(shapes) == 2
    assert shapes["circle"] is shapes.find("circle")
    assert shapes.name_of(shapes["point"]) == "point"
    assert shapes.names_for("round") == ["circle"]
    assert "square" not in shapes


def test_an_object_gets_what_it_asks_for(shapes: Registry[object]) -> None:
    circle = shapes.make("circle", {"centre": (1, 2), "colour": "red"}, {"radius": 2})
    assert (circle.centre, circle.radius) == ((1, 2), 2.0)  # type: ignore[attr-defined]
    assert shapes.make("point", {"centre": (1, 2)}, {}) is not None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("circel", {}, "^unknown shape 'circel'; known: circle, point; did you mean 'circle'"),
        ("x", {}, "^unknown shape 'x'; known: circle, point$"),
        ("circle", {"radius": 0}, "^radius: must be > 0, got 0$"),
        ("circle", {"radus": 1}, "^radus: unknown option; known: radius; did you mean 'radius'"),
    ],
)
def test_mistakes(
    name: str, options: dict[str, float], message: str, shapes: Registry[object]
) -> None:
    with pytest.raises(ValueError, match=message):
        shapes.make(name, {"centre": (0, 0)}, options)


def test_a_name_belongs_to_one_class(shapes: Registry[object]) -> None:
    with pytest.raises(ValueError, match=r"^shape 'circle': .*Circle has this name already$"):
        shapes.register("circle")(type("Other", (), {}))
