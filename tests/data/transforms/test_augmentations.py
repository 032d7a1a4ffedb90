from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from visionmtl._options import Count
from visionmtl.data.transforms.base import (
    AUGMENTATIONS,
    REFUSED,
    GeometricAugmentation,
    PhotometricAugmentation,
    build_augmentation,
)
from visionmtl.data.transforms.geometric import RandomScaleCrop, Rotate
from visionmtl.data.transforms.joint import JointTransform
from visionmtl.data.transforms.view import View, Zoom
from visionmtl.types import Sample


def test_an_augmentation_is_its_options_with_their_defaults() -> None:
    assert build_augmentation({"type": "rotate", "limit": 5}) == Rotate(limit=5.0, p=0.5)
    given = {"type": "random_scale_crop", "size": [8, 9], "scale": [1, 2]}
    built = build_augmentation(given)
    assert built == RandomScaleCrop(size=(8, 9), scale=(1.0, 2.0))
    assert built == RandomScaleCrop(size=[8, 9], scale=[1, 2])  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(built)) == built


def test_every_augmentation_moves_or_colours() -> None:
    for name, cls in AUGMENTATIONS.items():
        moves = issubclass(cls, GeometricAugmentation)
        assert moves != issubclass(cls, PhotometricAugmentation), name


def test_an_augmentation_does_not_change_what_it_is_made_of() -> None:
    given = {"type": "resize", "size": [8, 9]}
    build_augmentation(given)
    assert given == {"type": "resize", "size": [8, 9]}


def test_source_pixels_of_a_view() -> None:
    view = View(np.eye(3), (2, 3), np.ones(2), np.eye(2))
    index, inside = view.source_pixels(2, 3)
    assert index.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert inside.all()
    index, inside = view.then(np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]])).source_pixels(2, 3)
    assert inside.tolist() == [[False, True, True]] * 2
    assert index[:, 1:].tolist() == [[0, 1], [3, 4]]


KNOWN = ", ".join(AUGMENTATIONS)
SIZE = r"must be two integers \[height, width\] in 1..16384, got "
BAD = [
    ({"type": "mosaic"}, f"^unknown augmentation 'mosaic'; known: {KNOWN}"),
    ({"type": "rotat"}, "unknown augmentation 'rotat'; .*; did you mean 'rotate'?"),
    ({"size": [1, 2]}, f"^an augmentation needs a 'type'; known: {KNOWN}"),
    ({"type": 3}, "^type of an augmentation must be a string, got 3$"),
    ("resize", "^an augmentation must be a mapping such as .*, got 'resize'$"),
    ({"type": "resize"}, "^augmentation 'resize': size: required option is missing$"),
    (
        {"type": "rotate", "limit": 5, "angle": 3},
        "^augmentation 'rotate': angle: unknown option; known: limit, p$",
    ),
    (
        {"type": "jpeg", "qualty": [1, 2]},
        "'jpeg': qualty: unknown option; known: quality, p; did you mean 'quality'",
    ),
    ({"type": "rotate"}, "^augmentation 'rotate': limit: required option is missing$"),
    ({"type": "rotate", "limit": "5"}, "'rotate': limit: must be a number, got '5'$"),
    ({"type": "rotate", "limit": 181}, "'rotate': limit: must be <= 180, got 181$"),
    ({"type": "to_gray", "p": 1.5}, "'to_gray': p: must be <= 1, got 1.5$"),
    ({"type": "to_gray", "p": None}, "'to_gray': p: must be a number, got null$"),
    ({"type": "resize", "size": [0, 5]}, rf"'resize': size: {SIZE}\[0, 5\]$"),
    ({"type": "resize", "size": [True, 5]}, rf"'resize': size: {SIZE}\[True, 5\]$"),
    ({"type": "resize", "size": "12"}, f"'resize': size: {SIZE}'12'$"),
    (
        {"type": "random_scale_crop", "size": [8, 8], "scale": [2, 1]},
        r"'random_scale_crop': scale: must be two numbers \[lo, hi\] with 0.05 <= lo <= hi <= 20, "
        r"got \[2, 1\]$",
    ),
    (
        {"type": "random_scale_crop", "size": [8, 8], "scale": [0, 1]},
        "scale: must be two numbers",
    ),
    *(({"type": name}, f"{name}.*refused: surface normals would be wrong") for name in REFUSED),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_augmentations_are_refused_with_their_name(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_augmentation(given)
    assert "\n" not in str(caught.value)


def test_a_bad_augmentation_is_refused_by_the_transform_and_its_class_too() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'mosaic'"):
        JointTransform([], [{"type": "mosaic"}])
    with pytest.raises(ValueError, match=r"^Rotate: limit: must be <= 180, got 200$"):
        Rotate(limit=200)


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> type:
    """A user's own augmentation."""
    monkeypatch.setattr(AUGMENTATIONS, "_classes", dict(AUGMENTATIONS))

    @AUGMENTATIONS.register("shift")
    @dataclass(frozen=True, kw_only=True)
    class Shift(GeometricAugmentation):
        pixels: Count = 1

        def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
            if self.pixels >= view.size[1]:
                raise ValueError(f"{self.pixels} pixels are more than the picture has")
            return view.then(np.array([[1, 0, self.pixels], [0, 1, 0], [0, 0, 1.0]]))

    return Shift


def test_an_augmentation_of_the_user(shift: type) -> None:
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    for given in ({"type": "shift", "pixels": 2}, shift(pixels=2)):
        moved = JointTransform([], [given])(Sample(image, {}, "a"), 0).image
        np.testing.assert_array_equal(moved[:, 2:], image[:, :2])
        assert (moved[:, :2] == 127).all()
    with pytest.raises(ValueError, match=r"^augmentation 'shift': pixels: must be >= 1, got 0$"):
        JointTransform([], [{"type": "shift", "pixels": 0}])
    with pytest.raises(ValueError, match=r"^sample 'a': augmentation 'shift': 9 pixels are more"):
        JointTransform([], [shift(pixels=9)])(Sample(image, {}, "a"), 0)


def test_reading_augmentations_does_not_import_albumentations() -> None:
    code = (
        "import sys, visionmtl.data.transforms;"
        "print(sorted({'albumentations', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
