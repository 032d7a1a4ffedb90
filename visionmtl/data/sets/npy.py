"""Images and labels in ``.npy`` files."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from visionmtl.data.sets.labels import Frame, depth_target, unit_normals
from visionmtl.types import DenseTarget

# What NumPy raises on broken files, whose header is text that it parses.
_BROKEN = (ValueError, EOFError, MemoryError, OverflowError, TokenError)


def read_npy(path: Path, shapes: str, *dimensions: int) -> np.ndarray:
    """A numeric array; nothing pickled is loaded.

    Args:
        path: the file.
        shapes: what is expected, for the message.
        dimensions: the numbers of dimensions that are fine.

    Raises:
        ValueError: missing or broken file, pickled or other contents.
    """
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except _BROKEN as error:
        raise ValueError(f"{path}: broken .npy file: {' '.join(str(error).split())}") from error
    if array.ndim not in dimensions or array.dtype.kind not in "buif":
        raise ValueError(f"{path}: expected {shapes}, got {array.dtype} {array.shape}")
    return array


def read_unit_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB from numbers in 0..1.

    Raises:
        ValueError: missing or broken file, another shape, numbers outside 0..1, also nan.
    """
    image = read_npy(path, "an image (H, W, 3) in 0..1", 3)
    low = float(image.min(initial=0))
    high = float(image.max(initial=0))
    if image.shape[2] != 3 or not 0 <= low <= high <= 1:  # nan is refused too
        found = f"{image.dtype} {image.shape} in {low:g}..{high:g}"
        raise ValueError(f"{path}: expected an image (H, W, 3) in 0..1, got {found}")
    return (image * 255).round().astype(np.uint8)


def read_npy_labels(path: Path, num_classes: int) -> DenseTarget:
    """Class ids (H, W) of whole numbers, also as floats; -1 is void.

    Raises:
        ValueError: missing or broken file, another shape, other numbers.
    """
    ids = read_npy(path, "class ids (H, W)", 2)
    known = np.isin(ids, np.arange(-1, num_classes))  # fractions and nan are not
    if not known.all():
        wrong = np.unique(ids[~known])[:10].tolist()
        listed = ", ".join(f"{number:g}" for number in wrong)
        hint = ""
        if wrong == [num_classes]:
            hint = f"; a copy that counts from 0 (void) to {num_classes} must be lowered by 1"
        raise ValueError(
            f"{path}: labels {listed}, expected -1 (void) and 0..{num_classes - 1}{hint}"
        )
    return DenseTarget(np.where(ids < 0, 0, ids).astype(np.uint8), ids >= 0)


def read_npy_depth(path: Path, max_depth: float) -> DenseTarget:
    """Depth (H, W) or (H, W, 1) in metres; 0 and what is beyond ``max_depth`` is invalid.

    Raises:
        ValueError: missing or broken file, another shape.
    """
    metres = read_npy(path, "depth (H, W) or (H, W, 1)", 2, 3)
    if metres.ndim == 3:
        if metres.shape[2] != 1:
            raise ValueError(f"{path}: expected depth (H, W) or (H, W, 1), got {metres.shape}")
        metres = metres[..., 0]
    return depth_target(metres, max_depth)


def read_npy_normals(path: Path, frame: Frame) -> DenseTarget:
    """Normals (H, W, 3) of -1..1; (0, 0, 0) is invalid.

    Raises:
        ValueError: missing or broken file, another shape.
    """
    vectors = read_npy(path, "normals (H, W, 3)", 3)
    if vectors.shape[2] != 3:
        raise ValueError(f"{path}: expected normals (H, W, 3), got {vectors.shape}")
    return unit_normals(vectors, frame)
