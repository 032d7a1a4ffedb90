"""Writing of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def save_image(path: Path | str, array: np.ndarray) -> None:
    """Write RGB uint8 (H, W, 3), or one channel uint8 or uint16 (H, W), in the format that the
    suffix names.

    Raises:
        ValueError: the folder does not exist, or the format is unknown or cannot hold the array.
    """
    path = Path(path)
    check_folder(path)
    pixels = array
    if array.ndim == 3:
        pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    # imwrite fails without a word and cannot take every file name: encoded here, written by Python.
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:
        done = False
    if not done:
        format_ = path.suffix or "no suffix"
        raise ValueError(
            f"{path}: cannot write {array.dtype} of shape {array.shape} as {format_!r}"
        )
    path.write_bytes(encoded.tobytes())


def check_folder(path: Path) -> None:
    """Raise ``ValueError`` unless the folder of a file exists."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: cannot write, the folder {path.parent} does not exist")
