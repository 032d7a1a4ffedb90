"""Bilinear resampling of images before, and of dense predictions after the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Finish = Callable[[Tensor, bool], Tensor]
"""``DenseKind.finish`` of a kind."""
STRIP_ELEMENTS = 2**25
"""Dense predictions are resampled in strips of rows of about this many numbers."""


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Images (B, 3, height, width), float32 unless they have that size already."""
    if images.shape[-2:] == (height, width):
        return images
    resized = partial(F.interpolate, size=(height, width), mode="bilinear", antialias=True)
    channels = images.chunk(3, dim=1)  # one by one: a third of the memory
    return torch.cat([resized(channel.float()) for channel in channels], dim=1)


def resize_dense(values: Tensor, finish: Finish, height: int, width: int, blended: bool) -> Tensor:
    """Finished predictions (B, C, height, width).

    Args:
        values: the network's output (B, C, h, w), or class ids uint8.
        finish: makes predictions of it.
        height: of the result.
        width: of the result.
        blended: ``values`` are means of tiles, so they are to be finished as resampled ones.
    """
    if values.dtype == torch.uint8:
        return F.interpolate(values, (height, width), mode="nearest-exact")
    if values.shape[-2:] == (height, width) and not blended:
        return finish(values, False)
    rows = max(1, STRIP_ELEMENTS // (values.shape[0] * values.shape[1] * width))
    out: Tensor | None = None
    for top in range(0, height, rows):  # strip by strip: the logits of all pixels may be gigabytes
        strip = finish(_bilinear_rows(values, top, min(top + rows, height), height, width), True)
        if out is None:
            out = strip.new_empty((*strip.shape[:2], height, width))
        out[..., top : top + rows, :] = strip
    assert out is not None
    return out


def _bilinear_rows(values: Tensor, top: int, bottom: int, height: int, width: int) -> Tensor:
    """Rows top..bottom of ``F.interpolate(values, (height, width), mode="bilinear")``."""
    rows = values.shape[-2]
    y = torch.arange(top, bottom, device=values.device, dtype=torch.float32)
    y = ((y + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)
    above = y.long()
    below = (above + 1).clamp(max=rows - 1)
    strip = torch.lerp(
        values[..., above, :].float(), values[..., below, :].float(), (y - above).unsqueeze(-1)
    )
    return F.interpolate(strip, (bottom - top, width), mode="bilinear")
