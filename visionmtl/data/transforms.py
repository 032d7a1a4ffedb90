"""Joint augmentation of an image and its targets: the one module that knows albumentations.

The geometric steps of a recipe are multiplied into one affine map, and the image and every target are resampled once
through that map: a single interpolation blurs less and is faster than a chain of them, nothing is lost between two
steps, and normals, depth, boxes and intrinsics follow from the very matrix that moved the pixels. albumentations serves
the photometric steps, which touch the image only and run, in their listed order, after the geometry.

Conventions: pixel centres at integer + 0.5; camera frame x right, y down, z forward.

- Flip: n_x -> -n_x. Rotation p' = R p: (n_x, n_y) -> R (n_x, n_y). Depth is planar, neither changes it.
- Resize changes the pixel grid, not the field of view: depth and normals stay in both zoom modes, the focal lengths in
  pixels scale. A crop moves the principal point only.
- The factor s of ``random_scale_crop`` is the zoom. ``focal``: the lens changed; focal lengths * s, depth and normals
  stay. ``fixed_intrinsics``: the camera came nearer; focal lengths stay, depth / s, n -> normalise(n_x, n_y, s n_z),
  which is the scene (X, Y, Z) -> (X, Y, Z / s). That needs one s for both axes, so ``resize`` may not stretch there.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np

from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample, Target, TaskSpec

Zoom = Literal["focal", "fixed_intrinsics"]

PAD_VALUE = 127
"""Grey level of image pixels that lie outside the source image."""
MIN_VISIBLE = 0.25
"""A box is dropped when less than this share of its area is left in the picture."""
MIN_BOX_SIDE = 2.0
"""A box is dropped when a side is shorter than this, in pixels of the output."""
AREA_BELOW = 2 / 3
"""Images shrunk by more than this factor are first averaged over areas: bilinear sampling alone would alias."""
STRETCH_TOLERANCE = 0.01
"""Difference of the two factors of a resize that passes as rounding of the size."""


@dataclass(frozen=True)
class View:
    """How the output picture looks at the source picture.

    Attributes:
        matrix: (3, 3), source pixel coordinates -> output pixel coordinates.
        size: (H, W) of the output.
        focal: (2,), focal lengths fx, fy of the output in pixels; (1, 1) at the start if the camera is unknown.
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

        Exact in float64: OpenCV's nearest neighbour rounds coordinates to fixed point and knows neither bool nor int64.

        Returns:
            Flat indices into the (height, width) source, int64 (H, W), 0 where outside; inside, bool (H, W).
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
    view: View, rng: np.random.Generator, zoom: Zoom, size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
) -> View:
    s = rng.uniform(*scale)
    slack = (s * view.size[1] - size[1], s * view.size[0] - size[0])  # negative where the picture lies in the window
    left, top = (rng.integers(min(0, math.ceil(n)), max(0, math.floor(n)), endpoint=True) for n in slack)
    view = view.then(np.array([[s, 0, -left], [0, s, -top], [0, 0, 1]]), size=size)
    return replace(view, focal=view.focal * s) if zoom == "focal" else replace(view, zoom=view.zoom * s)


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
    linear = turn * view.focal[:, None] / view.focal  # a turn of rays, also where pixels are not square
    centre = np.array([view.size[1], view.size[0]]) / 2
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, centre - linear @ centre
    return view.then(matrix, rays=turn @ view.rays)


@dataclass(frozen=True)
class Step:
    """One kind of step.

    Attributes:
        parameters: per name the check and the default; ``None`` means that the parameter must be given.
        move: (view, rng, zoom, **parameters) -> the next view; geometric steps only.
        colour: (albumentations, **parameters) -> a transform of albumentations; photometric steps only.
    """

    parameters: Mapping[str, tuple[Check, Any]]
    move: Callable[..., View] | None = None
    colour: Callable[..., Any] | None = None


_P = (_number(0, 1), 0.5)
_SHARE = (_number(0, 1), 0.2)

STEPS: dict[str, Step] = {
    "resize": Step({"size": (_size, None)}, move=_resize),
    "random_scale_crop": Step({"size": (_size, None), "scale": (_interval(0.05, 20), None)}, move=_random_scale_crop),
    "random_crop": Step({"size": (_size, None)}, move=_random_scale_crop),
    "horizontal_flip": Step({"p": _P}, move=_horizontal_flip),
    "rotate": Step({"limit": (_number(0, 180), None), "p": _P}, move=_rotate),
    "color_jitter": Step(
        {"brightness": _SHARE, "contrast": _SHARE, "saturation": _SHARE, "hue": (_number(0, 0.5), 0.05), "p": _P},
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
        colour=lambda a, quality, p: a.ImageCompression(quality_range=(int(quality[0]), int(quality[1])), p=p),
    ),
}
"""The closed list of steps, by ``type``. ``p`` is the probability of a step, ``size`` is [height, width].

- ``resize`` brings the whole picture to ``size``.
- ``random_scale_crop`` scales by a factor from ``scale`` and cuts a window of ``size`` at a random place, padding where
  the picture is smaller; ``random_crop`` does so without scaling.
- ``rotate`` turns about the picture's centre by up to ``limit`` degrees either way. Boxes become the hulls of their
  turned corners and grow (the area of a square by a third at 10 degrees): keep ``limit`` small.
- ``color_jitter``: factors from [1 - x, 1 + x], ``hue`` a shift from [-x, x] of the circle. ``gaussian_blur``:
  ``sigma`` in pixels. ``gaussian_noise``: ``std`` as a share of the full range. ``random_gamma``: exponent on [0, 1].
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
        raise ValueError(f"transform step {kind!r} is refused: surface normals would be wrong after it")
    if not isinstance(kind, str) or kind not in STEPS:
        raise ValueError(f"unknown transform step {kind!r}; known: {', '.join(STEPS)}")
    parameters = STEPS[kind].parameters
    for name in values:
        if name not in parameters:
            raise ValueError(f"transform step {kind!r}: unknown parameter {name!r}; known: {', '.join(parameters)}")
    for name, (check, default) in parameters.items():
        if name not in values and default is None:
            raise ValueError(f"transform step {kind!r}: parameter {name!r} is missing")
        value = values.get(name, default)
        try:
            values[name] = check(value)
        except ValueError as expected:
            raise ValueError(f"transform step {kind!r}: {name} must be {expected}, got {value!r}") from None
    return STEPS[kind], values


def _warp_image(image: np.ndarray, view: View, inside: np.ndarray) -> np.ndarray:
    """Resample (H, W, 3) bilinearly, after averaging over areas where it shrinks; ``PAD_VALUE`` outside."""
    height, width = image.shape[:2]
    matrix = view.matrix
    scale = np.linalg.norm(matrix[:2, :2], axis=0)  # output pixels per source pixel, along the source's x and y
    if scale.min() < AREA_BELOW:
        w, h = (max(1, round(n * min(s, 1.0))) for n, s in zip((width, height), scale, strict=True))
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / w, height / h, 1.0])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the centre of the first pixel
    matrix = (np.linalg.inv(half) @ matrix @ half)[:2]
    out = cv2.warpAffine(image, matrix, view.size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out[~inside] = PAD_VALUE
    return out


def _warp_dense(target: DenseTarget, task: TaskSpec, view: View, index: np.ndarray, inside: np.ndarray) -> DenseTarget:
    """Gather values and validity by nearest neighbour and correct depth and normals for the view."""
    valid = target.valid.reshape(-1)[index] & inside
    value = target.value.reshape(-1, *target.value.shape[2:])[index]
    if task.kind == "depth" and view.zoom != 1:
        value /= view.zoom
        valid &= value <= task.max_depth
    if task.kind == "normals":
        value[..., :2] = value[..., :2] @ view.rays.T.astype(value.dtype)
        if view.zoom != 1:
            value[..., 2] *= view.zoom
            value /= np.maximum(np.linalg.norm(value, axis=-1, keepdims=True), np.finfo(value.dtype).tiny)
    value[~valid] = 0
    return DenseTarget(value, valid)


def _warp_boxes(target: BoxTarget, view: View) -> BoxTarget:
    """The hulls of the moved corners, clipped; unusable and hardly visible boxes are left out."""
    low, high = target.boxes[:, :2], target.boxes[:, 2:]
    usable = np.isfinite(target.boxes).all(axis=1) & (high > low).all(axis=1)
    corners = target.boxes[usable].astype(np.float64)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    corners = corners @ view.matrix[:2, :2].T + view.matrix[:2, 2]
    hull = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    height, width = view.size
    boxes = hull.clip(0, [width, height, width, height])
    sides, whole = boxes[:, 2:] - boxes[:, :2], hull[:, 2:] - hull[:, :2]
    keep = (sides.min(axis=1) >= MIN_BOX_SIDE) & (sides.prod(axis=1) >= MIN_VISIBLE * whole.prod(axis=1))
    return BoxTarget(boxes[keep].astype(np.float32), target.labels[usable][keep])


class JointTransform:
    """Applies a recipe of steps to an image, all its targets and its camera.

    Geometric steps come first, as one map, then photometric steps (see the module's text). Values and dtypes of
    targets are kept, nearest neighbour throughout; pixels from outside the picture are invalid and 0. A task that is
    absent from a sample stays absent. With no steps the sample passes unchanged.

    Args:
        tasks: the tasks a sample may carry.
        steps: one dict per step: ``type`` (a key of ``STEPS``) and its parameters.
        zoom: how a change of scale is read, see the module's text.

    Attributes:
        dropped_boxes: boxes left out so far: no area or not finite at input, or, afterwards, less visible than
            ``MIN_VISIBLE`` or thinner than ``MIN_BOX_SIDE``. Each worker process counts its own.

    Raises:
        ValueError: an unknown zoom, or a step that ``parse_step`` refuses.
    """

    def __init__(self, tasks: Sequence[TaskSpec], steps: Sequence[Mapping[str, Any]], zoom: Zoom = "focal") -> None:
        if zoom not in ("focal", "fixed_intrinsics"):
            raise ValueError(f"unknown zoom {zoom!r}; known: focal, fixed_intrinsics")
        parsed = [parse_step(step) for step in steps]
        self.tasks = {task.name: task for task in tasks}
        self.zoom: Zoom = zoom
        self.geometry = [partial(step.move, **values) for step, values in parsed if step.move]
        colours = [partial(step.colour, **values) for step, values in parsed if step.colour]
        self.photometry: Any = None
        self.dropped_boxes = 0
        if colours:  # the import costs seconds
            os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version at import
            import albumentations

            self.photometry = albumentations.Compose([colour(albumentations) for colour in colours])

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The transformed sample; equal seeds give equal results. The input is left as it is.

        Raises:
            ValueError: a task or a size that does not fit; a resize that stretches under ``fixed_intrinsics``.
        """
        self._check(sample)
        if self.geometry:
            sample = self._warp(sample, self.view(sample, seed))
        image = sample.image
        if self.photometry is not None:
            # Compose.set_random_seed would give every step the same stream: all would fire together or not at all.
            rng = np.random.default_rng([seed, 1])
            self.photometry.set_random_state(rng, random.Random(int(rng.integers(2**32))))
            image = self.photometry(image=image)["image"]
        return replace(sample, image=image, targets=dict(sample.targets))

    def view(self, sample: Sample, seed: int) -> View:
        """The geometry that ``seed`` gives to a sample."""
        rng = np.random.Generator(np.random.PCG64(seed))
        focal = (sample.camera.fx, sample.camera.fy) if sample.camera else (1.0, 1.0)
        view = View(np.eye(3), sample.image.shape[:2], np.array(focal), np.eye(2))
        for step in self.geometry:
            try:
                view = step(view, rng, self.zoom)
            except ValueError as error:
                raise ValueError(f"sample {sample.sample_id!r}: {error}") from None
        return view

    def _check(self, sample: Sample) -> None:
        size = sample.image.shape[:2]
        for name, target in sample.targets.items():
            if name not in self.tasks:
                known = ", ".join(self.tasks)
                raise ValueError(f"sample {sample.sample_id!r}: target of unknown task {name!r}; known: {known}")
            if isinstance(target, DenseTarget) and not target.value.shape[:2] == target.valid.shape == size:
                shapes = f"value {target.value.shape}, valid {target.valid.shape}"
                raise ValueError(f"sample {sample.sample_id!r}: task {name!r} has {shapes}, its image is {size}")
        camera = sample.camera
        if camera is not None and (camera.height, camera.width) != size:
            shape = (camera.height, camera.width)
            raise ValueError(f"sample {sample.sample_id!r}: its camera is for {shape}, its image is {size}")

    def _warp(self, sample: Sample, view: View) -> Sample:
        index, inside = view.source_pixels(*sample.image.shape[:2])
        targets: dict[str, Target] = {}
        for name, target in sample.targets.items():
            if isinstance(target, BoxTarget):
                boxes = _warp_boxes(target, view)
                self.dropped_boxes += len(target.boxes) - len(boxes.boxes)
                targets[name] = boxes
            else:
                targets[name] = _warp_dense(target, self.tasks[name], view, index, inside)
        camera = sample.camera
        if camera is not None:
            cx, cy, _ = (view.matrix @ [camera.cx, camera.cy, 1.0]).tolist()
            fx, fy = view.focal.tolist()
            camera = Camera(fx, fy, cx, cy, width=view.size[1], height=view.size[0])
        return Sample(_warp_image(sample.image, view, inside), targets, sample.sample_id, camera)


def build_transform(
    tasks: Sequence[TaskSpec], steps: Sequence[Mapping[str, Any]], zoom: Zoom = "focal"
) -> JointTransform:
    """The transform of a config: ``steps`` as plain dicts; an empty list is the identity."""
    return JointTransform(tasks, steps, zoom)
