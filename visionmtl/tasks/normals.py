"""Surface normals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from visionmtl._images import read_rgb
from visionmtl.metrics.normals import NormalsMetric
from visionmtl.tasks.base import DenseKind, View
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.report import DenseReport
from visionmtl.tasks.result import DenseResult
from visionmtl.types import KINDS, DenseTarget


class VectorCodec(Codec):
    """Unit vectors. Files are 8-bit RGB PNGs of round(127 n) + 128, (0, 0, 0) where invalid.

    A cache has 16 bits per component: within 0.003 degrees, of unit length to 3e-5.
    """

    def encode(self, target: DenseTarget) -> np.ndarray:
        codes = np.rint(target.value * np.float32(127)) + 128
        return np.where(target.valid[..., None], codes, 0).astype(np.uint8)

    def decode(self, codes: np.ndarray, source: str = "codes") -> DenseTarget:
        """Invalid is a vector shorter than 0.5 or longer than 1.5, as (0, 0, 0) is with 1.75."""
        vectors = codes.astype(np.float32) - 128  # in units of 1 / 127
        x, y, z = np.moveaxis(vectors, 2, 0)
        length = np.sqrt(x * x + y * y + z * z)
        valid = (length >= 0.5 * 127) & (length <= 1.5 * 127)
        factor = np.where(valid, 1 / np.maximum(length, 1), np.float32(0))
        for component in (x, y, z):
            component *= factor
        return DenseTarget(vectors, valid)

    def pack(self, target: DenseTarget) -> np.ndarray:
        """No unit vector becomes (0, 0, 0), which is invalid."""
        return np.rint(target.value * 32767.0).astype(np.int16)

    def unpack(self, codes: np.ndarray, size: tuple[int, int]) -> DenseTarget:
        codes = codes.reshape(*size, 3)
        x, y, z = np.moveaxis(codes, 2, 0)
        return DenseTarget(codes * np.float32(1 / 32767), (x | y | z) != 0)

    def read(self, path: Path) -> DenseTarget:
        return self.decode(read_rgb(path))


class NormalsReport(DenseReport):
    """Pixels that face the camera, and that face away from it."""

    num_bins = 2

    def value_fault(self, values: np.ndarray) -> str:
        if (np.abs(np.linalg.norm(values, axis=1) - 1) < 1e-3).all():
            return ""
        return "normals are not of unit length everywhere"

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values[:, 2] > 0

    def range(self) -> str:
        return f"{self.counts[0] / self.valid:.1%} towards the camera (z <= 0)"

    def notes(self) -> list[str]:
        found = super().notes()
        if self.counts[1] > self.valid / 2:
            expected = "expected x right, y down, z forward"
            found.insert(0, f"most point away from the camera; {expected}")
        return found


class NormalsResult(DenseResult):
    """Unit vectors in the camera frame: x right, y down, z forward. Written as ``VectorCodec``
    does.
    """

    @property
    def vectors(self) -> np.ndarray:
        """float32 (H, W, 3)."""
        return self.value


@KINDS.register("normals")
@dataclass(frozen=True)
class Normals(DenseKind):
    """Surface normals: unit vectors in the camera frame (x right, y down, z forward), facing the
    camera.
    """

    head: ClassVar[str] = "normals"
    loss: ClassVar[str] = "cosine"
    metric = NormalsMetric
    codec = VectorCodec
    result = NormalsResult
    report = NormalsReport
    channels = (3,)

    def seen(
        self, value: np.ndarray, valid: np.ndarray, view: View
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turned with the camera; where it came nearer, z grows by the zoom before the length is
        brought back to 1.
        """
        turn = np.diag([1.0, 1.0, view.zoom])
        turn[:2, :2] = view.rays
        value = (value.reshape(-1, 3) @ turn.T.astype(value.dtype)).reshape(value.shape)
        if view.zoom != 1:
            length = np.sqrt(np.einsum("hwc,hwc->hw", value, value))[..., None]
            value /= np.maximum(length, np.finfo(value.dtype).tiny)
        return value, valid

    def finish(self, output: Tensor, resampled: bool) -> Tensor:
        """A mean of unit vectors is shorter."""
        if not resampled:
            return output.float()
        return F.normalize(output.float())

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_normals(target.value, target.valid)


def draw_normals(vectors: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Unit vectors (H, W, 3) in the camera frame: right is red, up is green, towards the camera is
    blue.

    The frame has y down and z forward, so red = (x + 1) / 2, green = (1 - y) / 2, blue = (1 - z) /
    2.
    """
    facing = vectors * np.array([127.5, -127.5, -127.5], np.float32) + np.float32(127.5)
    picture: np.ndarray = np.nan_to_num(facing).round().clip(0, 255).astype(np.uint8)
    if valid is not None:
        picture[~valid] = 0
    return picture
