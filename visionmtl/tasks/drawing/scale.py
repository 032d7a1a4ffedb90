"""Numbers as colours, from cool to warm, with a scale that says what they mean."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from visionmtl.tasks.drawing.text import darken_corner, font_for, write

_MOST_SAMPLED = 1_000_000
"""Percentiles of larger pictures are those of every n-th pixel."""


def draw_values(
    values: np.ndarray, valid: np.ndarray | None = None, high: float | None = None
) -> np.ndarray:
    """Numbers (H, W) from cool to warm, with a scale.

    Args:
        values: of each pixel.
        valid: bool (H, W), or None where every finite number counts.
        high: the warm end of the scale; None takes the 98th percentile of the picture itself. The
            cool end is 0, or the 2nd percentile where that is below.
    """
    known = _known(values, valid)
    low = min(0.0, _percentile(values[known], 2, 0.0))
    if high is None:
        high = _percentile(values[known], 98, 1.0)
    span = max(high - low, 1e-12)
    share = np.clip((np.where(known, values, low) - low) / span, 0, 1)
    picture = coloured(np.where(known, share, np.nan))
    return with_scale(picture, f"{low:.3g}", f"{high:.3g}", (0, 255))


def share_of(
    values: np.ndarray, valid: np.ndarray | None, largest: float | None
) -> tuple[np.ndarray, float]:
    """Positive values as a share of the largest, 0..1 or nan where invalid, and the largest.

    Where it is not given, the largest is the 98th percentile.
    """
    known = _known(values, valid)
    if largest is None:
        largest = max(_percentile(values[known], 98, 1.0), 1e-3)
    share = np.clip(np.where(known, values, 0) / largest, 0, 1)
    return np.where(known, share, np.nan), largest


def coloured(warmth: np.ndarray) -> np.ndarray:
    """0..1 from cool to warm, nan black."""
    picture = _turbo((np.nan_to_num(warmth) * 255).round().astype(np.uint8))
    picture[np.isnan(warmth)] = 0
    return picture


def with_scale(picture: np.ndarray, start: str, end: str, codes: tuple[int, int]) -> np.ndarray:
    """A picture with a bar of colours from ``start`` to ``end`` in its lower left corner.

    Args:
        picture: uint8 (H, W, 3); too small ones are left as they are.
        start: text before the bar.
        end: text after it.
        codes: the colours of both ends, 0 (cool) to 255 (warm).
    """
    font = font_for(picture)
    line = round(font.size * 1.35)
    length = 6 * round(font.size)
    pad = line // 3
    left = 2 * pad + round(font.getlength(start))
    width = left + length + 2 * pad + round(font.getlength(end))
    if picture.shape[0] < 3 * line or picture.shape[1] < width:
        return picture
    top = darken_corner(picture, width, line + pad)
    bar = np.linspace(*codes, length).astype(np.uint8)[None].repeat(line // 2, 0)
    y = top + pad // 2 + line // 4
    picture[y : y + line // 2, left : left + length] = _turbo(bar)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    middle = top + (line + pad) / 2
    write(draw, pad, middle, start, font)
    write(draw, left + length + pad, middle, end, font)
    return np.array(canvas)


def _known(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    known: np.ndarray = np.isfinite(values)
    if valid is not None:
        known &= valid
    return known


def _percentile(values: np.ndarray, percent: float, otherwise: float) -> float:
    """A percentile of flat values; ``otherwise`` where there are none."""
    if not values.size:
        return otherwise
    return float(np.percentile(values[:: 1 + values.size // _MOST_SAMPLED], percent))


def _turbo(codes: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.applyColorMap(codes, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
