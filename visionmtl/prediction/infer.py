"""From images of any size to predictions at that size: what evaluation, prediction and serving
share.

Images are brought to the scale that the model was trained at, and predictions back to the size of
the image. What is too large for one pass goes through the network in overlapping tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from visionmtl.models.heads.decode import decode
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.resize import resize_dense, resize_images
from visionmtl.prediction.tiles import OVERLAP, TILE, infer_tiles
from visionmtl.types import Detections, Prediction

Size = int | Literal["native"] | None
"""Short side of what the network sees, see ``network_size``."""
Outputs = dict[str, Tensor | list[Detections]]
"""Task -> dense predictions of all images, or the boxes of each."""
MAX_ASPECT = 8


def infer(
    model: MultiTaskModel,
    images: Tensor,
    size: Size = None,
    *,
    tasks: Sequence[str] | None = None,
    score_threshold: float = 0.05,
    tile: int = TILE,
) -> Outputs:
    """Predict every task at the size of the images.

    The caller puts the model into evaluation mode, and back: ``evaluation_mode``. The result holds
    inference tensors (no gradients), on the device of the images, which is the model's.

    Args:
        model: the network.
        images: (B, 3, H, W) RGB in 0..255, uint8 or float.
        size: short side of what the network sees, see ``network_size``. None: that of
            ``model.input_size``.
        tasks: compute these only; None for all.
        score_threshold: detections below it are left out.
        tile: largest side of a tile, at least 768.

    Returns:
        In task order: semseg class ids uint8 (B, H, W), depth float32 (B, 1, H, W) metres, normals
        float32 (B, 3, H, W) unit vectors, detection one ``Detections`` per image, at most 100 per
        tile, disparity float32 (B, 1, H, W), saliency and edge float32 (B, 1, H, W) probabilities.
        Where the network sees the images as they are, depth, disparity and normals are its output,
        bit for bit. Otherwise logits, values and vectors are resampled bilinearly; of tiled images
        the class ids by nearest neighbour, so that memory does not grow with H * W * K.

    Raises:
        ValueError: images of another shape, an invalid ``size`` or ``tile``.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"images must be (B, 3, H, W) RGB in 0..255, got shape {tuple(images.shape)}"
        )
    if tile < 3 * OVERLAP:
        raise ValueError(f"tile must be at least {3 * OVERLAP} pixels, got {tile}")
    height, width = images.shape[-2:]
    forward: Callable[[Tensor], dict[str, Prediction]] = model
    if tasks is not None:
        forward = partial(model, tasks=tasks)
    with torch.inference_mode():
        seen = resize_images(images, *network_size(height, width, size, model.input_size))
        tiled = seen.shape[-2] * seen.shape[-1] > tile * tile
        if tiled:
            raw = infer_tiles(model, forward, seen, tile, score_threshold)
        else:
            raw = _infer_whole(forward, seen, score_threshold)
        results: Outputs = {}
        for spec in model.tasks:
            if spec.name not in raw:
                continue
            value = raw.pop(spec.name)  # its memory is needed for the next
            if isinstance(value, Tensor):
                finish = spec.kind.finish
                results[spec.name] = _without_channel(
                    resize_dense(value, finish, height, width, tiled)
                )
            else:
                scale_x = width / seen.shape[-1]
                scale_y = height / seen.shape[-2]
                results[spec.name] = [_scaled(found, scale_x, scale_y) for found in value]
    return results


def network_size(
    height: int, width: int, size: Size, input_size: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width that an image is brought to, aspect kept.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        size: an integer is the short side; ``"native"`` leaves the image as it is; None takes the
            short side of ``input_size``, or leaves the image as it is where that is None. Of images
            longer than 8 : 1 the long side becomes 8 * ``size``: a line of pixels must not grow
            into a giant.
        input_size: height and width of the training images.

    >>> network_size(1080, 1920, None, (240, 320))
    (240, 427)

    Raises:
        ValueError: ``size`` is none of these.
    """
    if size is None and input_size is not None:
        size = min(input_size)
    if size is None or size == "native":
        return height, width
    if isinstance(size, str | bool | float) or size < 1:
        raise ValueError(
            f"size must be a positive number of pixels, 'native' or None, got {size!r}"
        )
    scale = min(size / min(height, width), MAX_ASPECT * size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of the model into evaluation mode, and back into the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _infer_whole(
    forward: Callable[[Tensor], dict[str, Prediction]], images: Tensor, score_threshold: float
) -> Outputs:
    """Raw predictions of one pass, and decoded boxes."""
    raw: Outputs = {}
    for name, value in forward(images).items():
        if isinstance(value, Tensor):
            raw[name] = value
        else:
            raw[name] = decode(value, score_threshold)
    return raw


def _without_channel(dense: Tensor) -> Tensor:
    """Class ids (B, H, W) of (B, 1, H, W); other values as they are."""
    if dense.dtype == torch.uint8:
        return dense[:, 0]
    return dense


def _scaled(found: Detections, scale_x: float, scale_y: float) -> Detections:
    scale = found.boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    return Detections(found.boxes * scale, found.scores, found.labels)
