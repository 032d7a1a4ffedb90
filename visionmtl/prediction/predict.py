"""Predict on one image of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionmtl._images import read_image
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.infer import Size, evaluation_mode, infer, network_size
from visionmtl.prediction.result import Result


def predict(
    model: MultiTaskModel,
    image: str | Path | np.ndarray,
    size: Size = None,
    score_threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> Result:
    """Predict every task on one image, in evaluation mode; the mode of the model is restored.

    Args:
        model: the network.
        image: a file, or uint8 (H, W, 3) RGB.
        size: short side that the network sees, ``"native"`` for the image as it is; None for that
            of its training.
        score_threshold: detections below it are left out.
        device: where the model is moved to first; None leaves it where it is.

    Raises:
        ValueError: a file that is no image, an array of another shape or type, an invalid size or
            threshold.
    """
    check_options(size, score_threshold)
    name = ""
    pixels: Any = image
    if isinstance(image, str | Path):
        name = Path(image).name
        pixels = read_image(Path(image))
    _check_pixels(pixels)
    if device is not None:
        model.to(device)
    images = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1).unsqueeze(0)
    with evaluation_mode(model):
        outputs = infer(model, images.to(_device(model)), size, score_threshold=score_threshold)
    results = {}
    for spec in model.tasks:
        output = outputs.pop(spec.name)  # its memory is needed for the next
        results[spec.name] = spec.kind.result_of(output[0])
    return Result(pixels, results, name)


def check_options(size: Size, score_threshold: float) -> None:
    """Check what ``predict`` is given beside the image.

    Raises:
        ValueError: an invalid size or threshold.
    """
    network_size(1, 1, size, None)
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie in 0..1, got {score_threshold}")


def _check_pixels(pixels: Any) -> None:
    expected = "image must be a file name or a uint8 array (H, W, 3) in RGB"
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"{expected}, got {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{expected}, got {pixels.dtype} of shape {pixels.shape}")


def _device(model: torch.nn.Module) -> torch.device:
    for parameter in model.parameters():
        return parameter.device
    return torch.device("cpu")
