"""Surface normals from depth, for data that come with depth alone (Kinect, stereo, renders).

A plane n . P = d seen through a pinhole has an inverse depth that is affine in the pixel, 1 / Z = a
x + b y + c. Its normal is -(a fx, b fy, c) up to length, with x and y counted from the principal
point. A sensor that triangulates, as Kinect and stereo do, has about the same noise everywhere in
inverse depth (Khoshelham and Elberink, "Accuracy and Resolution of Kinect Depth Data", Sensors
2012, section 3), so a least-squares fit there is the right one and needs no weights. Windowed sums
make it as cheap as a blur (Badino et al., "Fast and Accurate Computation of Surface Normals from
Range Images", ICRA 2011).

A window across a depth step or a crease fits badly. There the pixel takes the best of the windows
that have it on their border, as stereo matching does with shiftable windows (Kang et al., CVPR
2001): a window on the pixel's own side.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from visionmtl.types import Camera, DenseTarget

SHIFT_GAIN = 3.0
"""The centred window, unbiased on curved surfaces, is left for a shifted one that fits this many
times better.
"""

MAX_RESIDUAL = 0.005
"""A window fits where its residual is at most this fraction of the inverse depth ..."""

MAX_NOISE = 2.0
"""... or at most this many times the noise of the picture, which is the median residual of its
windows.
"""

OUTLIER = 3.0
"""A pixel farther from the plane than this many residuals of the window lies on another surface."""

ROUNDING = 5e-4
"""Fraction of the inverse depth below which residuals are rounding: depth in whole millimetres at 1
metre.
"""


class _Planes(NamedTuple):
    """The plane of the window around each pixel, float64 (H, W) each: 1 / Z = a x + b y + c."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


def normals_from_depth(
    depth: np.ndarray, valid: np.ndarray, camera: Camera, radius: int | None = None
) -> DenseTarget:
    """Surface normals of a depth map, by planes fitted to square windows.

    The error in angle falls with the square of the radius where noise decides, and details smaller
    than the window are lost. A Kinect needs 15x15 pixels at 640x480; by the same field of view a
    clean render at 320x240 gets 7x7. On one core it takes about 50 ms at 640x480, and 10 ms at
    320x240.

    Args:
        depth: planar metres, float (H, W); anything where invalid.
        valid: bool (H, W).
        camera: intrinsics of this picture.
        radius: windows have 2 radius + 1 pixels a side; width / 90, at least 2, by default.

    Returns:
        value float32 (H, W, 3) unit vectors in the camera frame that face the camera, 0 where
        invalid. Invalid are the pixels without depth, and those for which no window is at least
        half full and fits: thin and cluttered parts, and all of a sparse map.

    Raises:
        ValueError: depth and valid are not (H, W) of one size or valid is not bool, the camera is
            for another size, the radius is not a positive integer.
    """
    if radius is None:
        radius = max(2, camera.width // 90)
    _check(depth, valid, camera, radius)
    known = valid & (depth > 0)
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=known, dtype=np.float64)
    x = np.arange(camera.width) + 0.5 - camera.cx
    y = np.arange(camera.height)[:, None] + 0.5 - camera.cy
    planes, residual = _fit(inverse, known, x, y, radius)
    noise = _noise(residual)
    _shift(planes, residual, np.where(known, ROUNDING * inverse, np.inf), radius)
    expected = planes.a * x + planes.b * y + planes.c
    fits = known & (residual <= np.maximum(MAX_RESIDUAL * inverse, MAX_NOISE * noise))
    fits &= np.abs(expected - inverse) <= np.maximum(OUTLIER * residual, ROUNDING * inverse)
    fits &= expected > 0  # the same as n . ray < 0
    nx = planes.a * camera.fx
    ny = planes.b * camera.fy
    nz = planes.c
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    scale = np.divide(-1.0, length, out=np.zeros(depth.shape), where=fits)
    value = np.stack([nx * scale, ny * scale, nz * scale], axis=-1).astype(np.float32)
    return DenseTarget(value, fits)


def _check(depth: np.ndarray, valid: np.ndarray, camera: Camera, radius: int) -> None:
    if depth.ndim != 2 or depth.shape != valid.shape or valid.dtype != bool:
        found = f"{depth.shape}, {valid.shape} {valid.dtype}"
        raise ValueError(f"depth and valid must be (H, W) of one size, valid bool; got {found}")
    if depth.shape != (camera.height, camera.width):
        size = f"{depth.shape[1]}x{depth.shape[0]}"
        raise ValueError(
            f"the camera is for {camera.width}x{camera.height} pixels, the depth map has {size}"
        )
    if not isinstance(radius, int) or radius < 1:
        raise ValueError(f"radius must be a positive number of pixels, got {radius!r}")


def _fit(
    inverse: np.ndarray, known: np.ndarray, x: np.ndarray, y: np.ndarray, radius: int
) -> tuple[_Planes, np.ndarray]:
    """The least-squares plane of every window and its residual.

    Moments about the mean leave 2x2 normal equations. They are regular: more than half of the
    pixels of a square cannot lie on a line. float64 has the digits for moments that are differences
    of large sums.

    Returns:
        planes; residual rms in 1 / metre, float32 (H, W), with n - 3 degrees of freedom, inf for
        windows that are less than half full.
    """
    side = 2 * radius + 1

    def total(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(
            values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    one = known.astype(np.float64)
    count = total(one)
    usable = 2 * count >= side * side
    count[~usable] = side * side  # any number that keeps the arithmetic below quiet
    share = 1 / count
    x_one = x * one
    y_one = y * one
    mean_x = total(x_one) * share
    mean_y = total(y_one) * share
    mean = total(inverse) * share
    xx = total(x * x_one) * share - mean_x * mean_x
    xy = total(y * x_one) * share - mean_x * mean_y
    yy = total(y * y_one) * share - mean_y * mean_y
    xw = total(x * inverse) * share - mean_x * mean
    yw = total(y * inverse) * share - mean_y * mean
    ww = total(inverse * inverse) * share - mean * mean
    determinant = xx * yy - xy * xy
    determinant[~usable] = 1
    a = (yy * xw - xy * yw) / determinant
    b = (xx * yw - xy * xw) / determinant
    square = np.maximum(ww - a * xw - b * yw, 0) * (count / (count - 3))
    residual = np.sqrt(square, dtype=np.float32, casting="same_kind")
    residual[~usable] = np.inf
    return _Planes(a, b, mean - a * mean_x - b * mean_y), residual


def _noise(residual: np.ndarray) -> float:
    """The usual residual of a window, in 1 / metre; 0 where there is no window."""
    usable = residual[np.isfinite(residual)]
    if not usable.size:
        return 0.0
    return float(np.median(usable))


def _shift(planes: _Planes, residual: np.ndarray, rounding: np.ndarray, radius: int) -> None:
    """Give the pixels whose window fits badly the plane of the best window that has them on its
    border, in place.
    """
    height, width = residual.shape
    padded = np.pad(residual, radius, constant_values=np.inf)  # outside the picture is no window
    shifts = list(product((0, radius, 2 * radius), repeat=2))
    best = residual
    for down, right in shifts:
        best = np.minimum(best, padded[down : down + height, right : right + width])
    row, column = np.nonzero(residual > np.maximum(SHIFT_GAIN * best, rounding))
    choice = np.argmin([padded[row + down, column + right] for down, right in shifts], axis=0)
    down, right = (np.array(shifts) - radius)[choice].T
    for values in (*planes, residual):
        values[row, column] = values[row + down, column + right]
