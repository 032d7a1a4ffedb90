"""Joint augmentation of an image and its targets: the one module that knows albumentations.

Geometric augmentations are multiplied into one affine map, and the image and every target are
resampled once through that map: a single interpolation blurs less and is faster than a chain of
them, nothing is lost between two augmentations, and normals, depth, boxes and intrinsics follow
from the very matrix that moved the pixels. albumentations serves the photometric augmentations,
which touch the image only and run, in their listed order, after the geometry.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import cv2
import numpy as np

from visionmtl.data.transforms.base import (
    Augmentation,
    GeometricAugmentation,
    PhotometricAugmentation,
    build_augmentation,
    name_of,
)
from visionmtl.data.transforms.view import View, Zoom
from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample, Target, TaskSpec

PAD_VALUE = 127
"""Grey level of image pixels that lie outside the source image."""
AREA_BELOW = 2 / 3
"""Images shrunk by more than this factor are first averaged over areas: bilinear sampling alone
would alias.
"""


def _warp_image(image: np.ndarray, view: View, inside: np.ndarray) -> np.ndarray:
    """Resample (H, W, 3) bilinearly, after averaging over areas where it shrinks; ``PAD_VALUE``
    outside.
    """
    height, width = image.shape[:2]
    matrix = view.matrix
    # Output pixels per source pixel, along the source's x and y.
    across, down = np.linalg.norm(matrix[:2, :2], axis=0)
    if min(across, down) < AREA_BELOW:
        less_wide = max(1, round(width * min(across, 1.0)))
        less_high = max(1, round(height * min(down, 1.0)))
        image = cv2.resize(image, (less_wide, less_high), interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / less_wide, height / less_high, 1.0])
    # OpenCV counts from the centre of the first pixel.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = (np.linalg.inv(half) @ matrix @ half)[:2]
    out = cv2.warpAffine(
        image, matrix, view.size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    out[~inside] = PAD_VALUE
    return out


Transform = Callable[[Sample, int], Sample]
"""Sample and seed -> transformed sample."""


class JointTransform:
    """Applies augmentations to an image, all its targets and its camera.

    Geometric ones come first, as one map, then photometric ones (see the module's text). Values and
    dtypes of targets are kept, nearest neighbour throughout; pixels from outside the picture are
    invalid and 0. A task that is absent from a sample stays absent. Without augmentations the
    sample passes unchanged.

    Args:
        tasks: the tasks a sample may carry.
        augmentations: in order; built ones, or mappings ``{"type": name, **options}``.
        zoom: what a change of scale means, see ``visionmtl.data.transforms.view.Zoom``.

    Attributes:
        dropped_boxes: boxes left out so far: no area or not finite at input, or, afterwards, less
            visible than ``MIN_VISIBLE`` or thinner than ``MIN_BOX_SIDE`` of
            ``visionmtl.tasks.boxes``. Each worker process counts its own.

    Raises:
        ValueError: an unknown zoom, or an augmentation that ``build_augmentation`` refuses.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        augmentations: Sequence[Augmentation | Mapping[str, Any]],
        zoom: Zoom = "focal",
    ) -> None:
        if zoom not in get_args(Zoom):
            raise ValueError(f"unknown zoom {zoom!r}; known: {', '.join(get_args(Zoom))}")
        built = [build_augmentation(given) for given in augmentations]
        self.tasks = {task.name: task for task in tasks}
        self.zoom: Zoom = zoom
        self.geometric = [a for a in built if isinstance(a, GeometricAugmentation)]
        self._photometry = _compose([a for a in built if isinstance(a, PhotometricAugmentation)])
        self.dropped_boxes = 0

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The transformed sample; equal seeds give equal results. The input is left as it is.

        Raises:
            ValueError: a task or a size that does not fit; a resize that stretches under
                ``fixed_intrinsics``.
        """
        self._check(sample)
        if self.geometric:
            sample = self._warp(sample, self.view(sample, seed))
        image = sample.image
        if self._photometry is not None:
            # Compose.set_random_seed would give every augmentation the same stream: all would fire
            # together or not at all.
            rng = np.random.default_rng([seed, 1])
            self._photometry.set_random_state(rng, random.Random(int(rng.integers(2**32))))
            image = self._photometry(image=image)["image"]
        return replace(sample, image=image, targets=dict(sample.targets))

    def view(self, sample: Sample, seed: int) -> View:
        """The geometry that ``seed`` gives to a sample."""
        rng = np.random.Generator(np.random.PCG64(seed))
        focal = np.ones(2)
        if sample.camera is not None:
            focal = np.array([sample.camera.fx, sample.camera.fy])
        view = View(np.eye(3), sample.image.shape[:2], focal, np.eye(2))
        for augmentation in self.geometric:
            try:
                view = augmentation.move(view, rng, self.zoom)
            except ValueError as error:
                where = f"sample {sample.sample_id!r}: augmentation {name_of(augmentation)!r}"
                raise ValueError(f"{where}: {error}") from None
        return view

    def _check(self, sample: Sample) -> None:
        size = sample.image.shape[:2]
        for name, target in sample.targets.items():
            if name not in self.tasks:
                known = ", ".join(self.tasks)
                raise ValueError(
                    f"sample {sample.sample_id!r}: target of unknown task {name!r}; known: {known}"
                )
            if not isinstance(target, DenseTarget):
                continue
            if not target.value.shape[:2] == target.valid.shape == size:
                shapes = f"value {target.value.shape}, valid {target.valid.shape}"
                raise ValueError(
                    f"sample {sample.sample_id!r}: task {name!r} has {shapes}, its image is {size}"
                )
        if sample.camera is None:
            return
        shape = (sample.camera.height, sample.camera.width)
        if shape != size:
            raise ValueError(
                f"sample {sample.sample_id!r}: its camera is for {shape}, its image is {size}"
            )

    def _warp(self, sample: Sample, view: View) -> Sample:
        index, inside = view.source_pixels(*sample.image.shape[:2])
        targets: dict[str, Target] = {}
        for name, target in sample.targets.items():
            followed: Target = self.tasks[name].kind.followed(target, view, index, inside)
            if isinstance(target, BoxTarget) and isinstance(followed, BoxTarget):
                self.dropped_boxes += len(target.boxes) - len(followed.boxes)
            targets[name] = followed
        camera = sample.camera
        if camera is not None:
            cx, cy, _ = (view.matrix @ [camera.cx, camera.cy, 1.0]).tolist()
            fx, fy = view.focal.tolist()
            camera = Camera(fx, fy, cx, cy, width=view.size[1], height=view.size[0])
        return Sample(_warp_image(sample.image, view, inside), targets, sample.sample_id, camera)


def _compose(augmentations: Sequence[PhotometricAugmentation]) -> Any:
    """One transform of albumentations for all; None for none, as its import costs seconds."""
    if not augmentations:
        return None
    # albumentations asks the network for a newer version of itself when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations.Compose([augmentation.make() for augmentation in augmentations])


def build_transform(
    tasks: Sequence[TaskSpec],
    augmentations: Sequence[Augmentation | Mapping[str, Any]],
    zoom: Zoom = "focal",
) -> JointTransform:
    """The transform of a config; an empty list is the identity."""
    return JointTransform(tasks, augmentations, zoom)
