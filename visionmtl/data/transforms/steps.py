"""The closed list of augmentation steps: their parameters, checked, and what the geometric ones do
to the view.

Conventions: pixel centres at integer + 0.5; camera frame x right, y down, z forward.

- Flip: n_x -> -n_x. Rotation p' = R p: (n_x, n_y) -> R (n_x, n_y). Depth is planar, neither changes
  it.
- Resize changes the pixel grid, not the field of view: depth and normals stay in both zoom modes,
  the focal lengths in pixels scale. A crop moves the principal point only.
- The factor s of ``random_scale_crop`` is the zoom. ``focal``: the lens changed; focal lengths * s,
  depth and normals stay. ``fixed_intrinsics``: the camera came nearer; focal lengths stay, depth /
  s, n -> normalise(n_x, n_y, s n_z), which is the scene (X, Y, Z) -> (X, Y, Z / s). That needs one
  s for both axes, so ``resize`` may not stretch there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Zoom = Literal["focal", "fixed_intrinsics"]

STRETCH_TOLERANCE = 0.01
"""Difference of the two factors of a resize that passes as rounding of the size."""


@dataclass(frozen=True)
class View:
    """How the output picture looks at the source picture.

    Attributes:
        matrix: (3, 3), source pixel coordinates -> output pixel coordinates.
        size: (H, W) of the output.
        focal: (2,), focal lengths fx, fy of the output in pixels; (1, 1) at the start if the camera
            is unknown.
        rays: (2, 2), orthogonal, what flips and rotations do to the x and y of a direction.
        zoom: by how much the camera came nearer (1 in ``focal`` mode).
    """

    matrix: np.ndarray
    size: tuple[int, int]
    focal: np.ndarray
    rays: np.ndarray
    zoom: float = 1.0

    def then(self, matrix: np.ndarray, **changes: Any) -> View:
        """This view followed by ``matrix`` (3, 3)."""
        return replace(self, matrix=matrix @ self.matrix, **changes)

    def source_pixels(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The source pixel that covers each output pixel's centre.

        Exact in float64: OpenCV's nearest neighbour rounds coordinates to fixed point and knows
        neither bool nor int64.

        Returns:
            Flat indices into the (height, width) source, int64 (H, W), 0 where outside; inside,
            bool (H, W).
        """
        inverse = np.linalg.inv(self.matrix)
        columns, rows = np.arange(self.size[1]) + 0.5, np.arange(self.size[0])[:, None] + 0.5
        x, y = (a * columns + (b * rows + c) for a, b, c in inverse[:2])
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = np.floor(y).astype(np.int64) * width + np.floor(x).astype(np.int64)
        return np.where(inside, index, 0), inside


Check = Callable[[Any], Any]
"""Gives a parameter's clean value, or raises a ValueError whose text is what was expected."""


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if not _within(value, low, high):
            raise ValueError(f"a number in [{low:g}, {high:g}]")
        return float(value)

    return check


def _interval(low: float, high: float) -> Check:
    def check(value: Any) -> tuple[float, float]:
        pair = list(value) if isinstance(value, Sequence) else []
        if len(pair) != 2 or not all(_within(v, low, high) for v in pair) or pair[0] > pair[1]:
            raise ValueError(f"two numbers [lo, hi] with {low:g} <= lo <= hi <= {high:g}")
        return float(pair[0]), float(pair[1])

    return check


def _size(value: Any) -> tuple[int, int]:
    pair = list(value) if isinstance(value, Sequence) else []
    if len(pair) != 2 or not all(isinstance(v, int) and _within(v, 1, 16384) for v in pair):
        raise ValueError("two integers [height, width] in [1, 16384]")
    return pair[0], pair[1]


def _resize(view: View, rng: np.random.Generator, zoom: Zoom, size: tuple[int, int]) -> View:
    (height, width), (h, w) = size, view.size
    factors = np.array([width / w, height / h])
    if zoom == "fixed_intrinsics" and abs(factors[0] / factors[1] - 1) >= STRETCH_TOLERANCE:
        raise ValueError(
            f"transform step 'resize': {h}x{w} to {height}x{width} stretches the picture, which zoom "
            "'fixed_intrinsics' refuses; keep the aspect ratio or use zoom 'focal'"
        )
    return view.then(np.diag([*factors, 1.0]), size=size, focal=view.focal * factors)


def _random_scale_crop(
    view: View,
    rng: np.random.Generator,
    zoom: Zoom,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
) -> View:
    s = rng.uniform(*scale)
    slack = (
        s * view.size[1] - size[1],
        s * view.size[0] - size[0],
    )  # negative where the picture lies in the window
    left, top = (
        rng.integers(min(0, math.ceil(n)), max(0, math.floor(n)), endpoint=True) for n in slack
    )
    view = view.then(np.array([[s, 0, -left], [0, s, -top], [0, 0, 1]]), size=size)
    return (
        replace(view, focal=view.focal * s)
        if zoom == "focal"
        else replace(view, zoom=view.zoom * s)
    )


def _horizontal_flip(view: View, rng: np.random.Generator, zoom: Zoom, p: float) -> View:
    if rng.random() >= p:
        return view
    mirror = np.array([[-1.0, 0, view.size[1]], [0, 1, 0], [0, 0, 1]])
    return view.then(mirror, rays=mirror[:2, :2] @ view.rays)


def _rotate(view: View, rng: np.random.Generator, zoom: Zoom, limit: float, p: float) -> View:
    if rng.random() >= p:
        return view
    angle = math.radians(rng.uniform(-limit, limit))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = (
        turn * view.focal[:, None] / view.focal
    )  # a turn of rays, also where pixels are not square
    centre = np.array([view.size[1], view.size[0]]) / 2
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, centre - linear @ centre
    return view.then(matrix, rays=turn @ view.rays)


@dataclass(frozen=True)
class Step:
    """One kind of step.

    Attributes:
        parameters: per name the check and the default; ``None`` means that the parameter must be
            given.
        move: (view, rng, zoom, **parameters) -> the next view; geometric steps only.
        colour: (albumentations, **parameters) -> a transform of albumentations; photometric steps
            only.
    """

    parameters: Mapping[str, tuple[Check, Any]]
    move: Callable[..., View] | None = None
    colour: Callable[..., Any] | None = None


_P = (_number(0, 1), 0.5)
_SHARE = (_number(0, 1), 0.2)

STEPS: dict[str, Step] = {
    "resize": Step({"size": (_size, None)}, move=_resize),
    "random_scale_crop": Step(
        {"size": (_size, None), "scale": (_interval(0.05, 20), None)}, move=_random_scale_crop
    ),
    "random_crop": Step({"size": (_size, None)}, move=_random_scale_crop),
    "horizontal_flip": Step({"p": _P}, move=_horizontal_flip),
    "rotate": Step({"limit": (_number(0, 180), None), "p": _P}, move=_rotate),
    "color_jitter": Step(
        {
            "brightness": _SHARE,
            "contrast": _SHARE,
            "saturation": _SHARE,
            "hue": (_number(0, 0.5), 0.05),
            "p": _P,
        },
        colour=lambda a, hue, p, **shares: a.ColorJitter(
            **{name: (1 - share, 1 + share) for name, share in shares.items()}, hue=(-hue, hue), p=p
        ),
    ),
    "gaussian_blur": Step(
        {"sigma": (_interval(0.1, 20), (0.3, 1.5)), "p": _P},
        colour=lambda a, sigma, p: a.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=p),
    ),
    "gaussian_noise": Step(
        {"std": (_interval(0, 1), (0.01, 0.05)), "p": _P},
        colour=lambda a, std, p: a.GaussNoise(std_range=std, p=p),
    ),
    "random_gamma": Step(
        {"gamma": (_interval(0.1, 10), (0.8, 1.25)), "p": _P},
        colour=lambda a, gamma, p: a.RandomGamma(gamma_limit=(100 * gamma[0], 100 * gamma[1]), p=p),
    ),
    "to_gray": Step({"p": _P}, colour=lambda a, p: a.ToGray(p=p)),
    "jpeg": Step(
        {"quality": (_interval(1, 100), (50, 95)), "p": _P},
        colour=lambda a, quality, p: a.ImageCompression(
            quality_range=(int(quality[0]), int(quality[1])), p=p
        ),
    ),
}
"""The closed list of steps, by ``type``. ``p`` is the probability of a step, ``size`` is [height,
width].

- ``resize`` brings the whole picture to ``size``.
- ``random_scale_crop`` scales by a factor from ``scale`` and cuts a window of ``size`` at a random
  place, padding where the picture is smaller; ``random_crop`` does so without scaling.
- ``rotate`` turns about the picture's centre by up to ``limit`` degrees either way. Boxes become
  the hulls of their turned corners and grow (the area of a square by a third at 10 degrees): keep
  ``limit`` small.
- ``color_jitter``: factors from [1 - x, 1 + x], ``hue`` a shift from [-x, x] of the circle.
  ``gaussian_blur``: ``sigma`` in pixels. ``gaussian_noise``: ``std`` as a share of the full range.
  ``random_gamma``: exponent on [0, 1].
"""
REFUSED = ("shear", "perspective", "elastic")


def parse_step(step: Mapping[str, Any]) -> tuple[Step, dict[str, Any]]:
    """The step that a plain dict names with ``type``, and all its parameters, checked.

    Raises:
        ValueError: unknown or refused type; unknown, missing or bad parameter.
    """
    values = dict(step) if isinstance(step, Mapping) else {"type": step}
    kind = values.pop("type", None)
    if kind in REFUSED:
        raise ValueError(
            f"transform step {kind!r} is refused: surface normals would be wrong after it"
        )
    if kind is None:
        raise ValueError(f"a transform step needs a 'type'; known: {', '.join(STEPS)}")
    if not isinstance(kind, str) or kind not in STEPS:
        raise ValueError(f"unknown transform step {kind!r}; known: {', '.join(STEPS)}")
    parameters = STEPS[kind].parameters
    for name in values:
        if name not in parameters:
            raise ValueError(
                f"transform step {kind!r}: unknown parameter {name!r}; known: {', '.join(parameters)}"
            )
    for name, (check, default) in parameters.items():
        if name not in values and default is None:
            raise ValueError(f"transform step {kind!r}: parameter {name!r} is missing")
        value = values.get(name, default)
        try:
            values[name] = check(value)
        except ValueError as expected:
            raise ValueError(
                f"transform step {kind!r}: {name} must be {expected}, got {value!r}"
            ) from None
    return STEPS[kind], values
