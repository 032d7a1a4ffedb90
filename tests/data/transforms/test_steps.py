from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from visionmtl.data.transforms.joint import JointTransform
from visionmtl.data.transforms.steps import REFUSED, STEPS, View, parse_step


def test_a_step_is_its_parameters_with_their_defaults() -> None:
    step, values = parse_step({"type": "rotate", "limit": 5})
    assert step is STEPS["rotate"]
    assert values == {"limit": 5.0, "p": 0.5}
    assert parse_step({"type": "random_scale_crop", "size": [8, 9], "scale": [1, 2]})[1] == {
        "size": (8, 9),
        "scale": (1.0, 2.0),
    }


def test_every_step_moves_or_colours() -> None:
    for name, step in STEPS.items():
        assert (step.move is None) != (step.colour is None), name


def test_a_step_does_not_change_what_it_is_given() -> None:
    given = {"type": "resize", "size": [8, 9]}
    parse_step(given)
    assert given == {"type": "resize", "size": [8, 9]}


def test_source_pixels_of_a_view() -> None:
    view = View(np.eye(3), (2, 3), np.ones(2), np.eye(2))
    index, inside = view.source_pixels(2, 3)
    assert index.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert inside.all()
    index, inside = view.then(np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]])).source_pixels(2, 3)
    assert inside.tolist() == [[False, True, True]] * 2
    assert index[:, 1:].tolist() == [[0, 1], [3, 4]]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "mosaic"}, "unknown transform step 'mosaic'; known: resize, random_scale_crop"),
        ({"size": [1, 2]}, "a transform step needs a 'type'; known: resize, random_scale_crop"),
        ("resize", "transform step 'resize': parameter 'size' is missing"),
        (
            {"type": "rotate", "limit": 5, "angle": 3},
            "transform step 'rotate': unknown parameter 'angle'; known: limit, p",
        ),
        ({"type": "rotate"}, "transform step 'rotate': parameter 'limit' is missing"),
        (
            {"type": "rotate", "limit": "5"},
            r"'rotate': limit must be a number in \[0, 180\], got '5'",
        ),
        ({"type": "to_gray", "p": 1.5}, r"'to_gray': p must be a number in \[0, 1\], got 1.5"),
        ({"type": "to_gray", "p": None}, "'to_gray': p must be a number"),
        (
            {"type": "resize", "size": [0, 5]},
            r"'resize': size must be two integers \[height, width\]",
        ),
        ({"type": "resize", "size": "12"}, "'resize': size must be two integers"),
        (
            {"type": "random_scale_crop", "size": [8, 8], "scale": [2, 1]},
            "scale must be two numbers",
        ),
        (
            {"type": "random_scale_crop", "size": [8, 8], "scale": [0, 1]},
            "scale must be two numbers",
        ),
        *(({"type": name}, f"{name}.*refused: surface normals would be wrong") for name in REFUSED),
    ],
)
def test_bad_steps_are_refused_with_their_name(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_step(step)


def test_a_bad_step_is_refused_by_the_transform_too() -> None:
    with pytest.raises(ValueError, match="unknown transform step 'mosaic'"):
        JointTransform([], [{"type": "mosaic"}])


def test_reading_steps_needs_no_heavy_package() -> None:
    code = (
        "import sys, visionmtl.data.transforms.steps;"
        "print(sorted({'torch', 'timm', 'cv2', 'albumentations', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
