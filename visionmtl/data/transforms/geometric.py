"""Augmentations that move the image and its targets.

Conventions: pixel centres at integer + 0.5; camera frame x right, y down, z forward.

- Flip: n_x -> -n_x. Rotation p' = R p: (n_x, n_y) -> R (n_x, n_y). Depth is planar, neither changes
  it.
- Resize changes the pixel grid, not the field of view: depth and normals stay in both zoom modes,
  the focal lengths in pixels scale. A crop moves the principal point only.
- The factor s of ``random_scale_crop`` is the zoom, see ``visionmtl.data.transforms.view.Zoom``.
  ``fixed_intrinsics`` needs one s for both axes, so ``resize`` may not stretch there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from visionmtl._options import Fraction, Interval, PictureSize, Within
from visionmtl.data.transforms.base import AUGMENTATIONS, GeometricAugmentation
from visionmtl.data.transforms.view import View, Zoom

STRETCH_TOLERANCE = 0.01
"""Difference of the two factors of a resize that passes as rounding of the size."""

Degrees = Annotated[float, Field(ge=0, le=180)]


@AUGMENTATIONS.register("resize")
@dataclass(frozen=True, kw_only=True)
class Resize(GeometricAugmentation):
    """Brings the whole picture to a size.

    Args:
        size: [height, width] in pixels.
    """

    size: PictureSize

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        height, width = self.size
        before_height, before_width = view.size
        factors = np.array([width / before_width, height / before_height])
        stretches = abs(factors[0] / factors[1] - 1) >= STRETCH_TOLERANCE
        if zoom == "fixed_intrinsics" and stretches:
            raise ValueError(
                f"{before_height}x{before_width} to {height}x{width} stretches the picture, which "
                "zoom 'fixed_intrinsics' refuses; keep the aspect ratio or use zoom 'focal'"
            )
        return view.then(np.diag([*factors, 1.0]), size=self.size, focal=view.focal * factors)


@AUGMENTATIONS.register("random_scale_crop")
@dataclass(frozen=True, kw_only=True)
class RandomScaleCrop(GeometricAugmentation):
    """Scales by a random factor and cuts a window at a random place.

    Where the picture is smaller than the window, it is padded.

    Args:
        size: [height, width] of the window in pixels.
        scale: [lo, hi] of the factor.
    """

    size: PictureSize
    scale: Annotated[Interval, Within(0.05, 20)]

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        return _crop(view, rng, zoom, self.size, self.scale)


@AUGMENTATIONS.register("random_crop")
@dataclass(frozen=True, kw_only=True)
class RandomCrop(GeometricAugmentation):
    """Cuts a window at a random place, and pads where the picture is smaller.

    Args:
        size: [height, width] of the window in pixels.
    """

    size: PictureSize

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        return _crop(view, rng, zoom, self.size, (1.0, 1.0))


@AUGMENTATIONS.register("horizontal_flip")
@dataclass(frozen=True, kw_only=True)
class HorizontalFlip(GeometricAugmentation):
    """Mirrors left and right.

    Args:
        p: the probability.
    """

    p: Fraction = 0.5

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        if rng.random() >= self.p:
            return view
        mirror = np.array([[-1.0, 0, view.size[1]], [0, 1, 0], [0, 0, 1]])
        return view.then(mirror, rays=mirror[:2, :2] @ view.rays)


@AUGMENTATIONS.register("rotate")
@dataclass(frozen=True, kw_only=True)
class Rotate(GeometricAugmentation):
    """Turns the picture about its centre.

    Boxes become the hulls of their turned corners and grow, the area of a square by a third at 10
    degrees: keep ``limit`` small.

    Args:
        limit: the largest angle in degrees, either way.
        p: the probability.
    """

    limit: Degrees
    p: Fraction = 0.5

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        if rng.random() >= self.p:
            return view
        angle = math.radians(rng.uniform(-self.limit, self.limit))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn * view.focal[:, None] / view.focal  # turns rays, also where fx is not fy
        centre = np.array([view.size[1], view.size[0]]) / 2
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = centre - linear @ centre
        return view.then(matrix, rays=turn @ view.rays)


def _crop(
    view: View, rng: np.random.Generator, zoom: Zoom, size: tuple[int, int], scales: Interval
) -> View:
    """A window of ``size`` at a random place of the view, scaled by a random factor."""
    scale = rng.uniform(*scales)
    left = _offset(rng, scale * view.size[1], size[1])
    top = _offset(rng, scale * view.size[0], size[0])
    moved = view.then(np.array([[scale, 0, -left], [0, scale, -top], [0, 0, 1]]), size=size)
    if zoom == "focal":
        return replace(moved, focal=view.focal * scale)
    return replace(moved, zoom=view.zoom * scale)


def _offset(rng: np.random.Generator, length: float, window: int) -> int:
    """A random place of a window along a side; negative where the side lies within the window."""
    slack = length - window
    low = min(0, math.ceil(slack))
    high = max(0, math.floor(slack))
    return int(rng.integers(low, high, endpoint=True))
