"""The finished prediction of one task for one image, in NumPy, at the size of the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import cv2
import numpy as np

from visionmtl.types import DenseTarget


class TaskResult:
    """The prediction of one task for one image."""

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        """A picture uint8 (H, W, 3) of the image's size.

        Args:
            image: uint8 (H, W, 3) RGB.
            max_value: end of the colour scale, where the kind has one; None takes it from the
                picture. Give the same value to pictures that are to be compared.
        """
        raise NotImplementedError

    def scaled(self, scale: float) -> Self:
        """The result for the image in another size."""
        raise NotImplementedError

    def save(self, folder: Path, stem: str, image: np.ndarray, name: str = "") -> None:
        """Write files whose names begin with ``stem``.

        Args:
            folder: where; it must exist.
            stem: the beginning of their names.
            image: uint8 (H, W, 3) RGB.
            name: file name of the image.

        Raises:
            ValueError: the folder does not exist.
        """
        raise NotImplementedError


@dataclass(eq=False)
class DenseResult(TaskResult):
    """A value per pixel, written as the codec of the kind does.

    Attributes:
        kind: of the task.
        value: (H, W) or (H, W, C).
        shrinking: OpenCV's interpolation for smaller sizes.
    """

    kind: Any
    value: np.ndarray
    shrinking: ClassVar[int] = cv2.INTER_NEAREST

    def target(self) -> DenseTarget:
        """The prediction in the form of a target: what is not finite is invalid."""
        valid = np.isfinite(self.value)
        if valid.ndim == 3:
            valid = valid.all(axis=2)
        return DenseTarget(self.value, valid)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        picture: np.ndarray = self.kind.draw(self.target(), image, max_value)
        return picture

    def scaled(self, scale: float) -> Self:
        return type(self)(self.kind, shrunk(self.value, scale, self.shrinking))

    def save(self, folder: Path, stem: str, image: np.ndarray, name: str = "") -> None:
        codec = self.kind.codec.for_predictions(self.kind)
        codec.write(folder / f"{stem}{codec.suffixes[0]}", self.target())


def shrunk(array: np.ndarray, scale: float, method: int = cv2.INTER_NEAREST) -> np.ndarray:
    """A picture (H, W, ...) in another size; as it is at scale 1."""
    if scale == 1:
        return array
    height = max(1, round(array.shape[0] * scale))
    width = max(1, round(array.shape[1] * scale))
    return cv2.resize(array, (width, height), interpolation=method)
