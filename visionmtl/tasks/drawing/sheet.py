"""Contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from visionmtl.tasks.drawing.text import font_of, write

GAP = 8
"""White pixels around the cells of a grid."""

_GREY = (40, 40, 40)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] | None = None,
    height: int | None = None,
) -> np.ndarray:
    """A contact sheet on white: the images of each row side by side, brought to one height, aspect
    kept.

    Args:
        rows: images uint8 (H, W, 3); rows may differ in length.
        titles: one per column.
        height: of every cell, in pixels; None takes that of the tallest image.

    Raises:
        ValueError: there is no image.
    """
    heights = [cell.shape[0] for row in rows for cell in row]
    if not heights:
        raise ValueError("a grid needs at least one image")
    height = height or max(heights)
    cells = [[_to_height(cell, height) for cell in row] for row in rows]
    titles = list(titles or [])
    font = font_of(max(11, round(height / 18)))
    widths = [0] * max(len(row) for row in cells)
    for row in cells:
        for i, cell in enumerate(row):
            widths[i] = max(widths[i], cell.shape[1])
    for i, title in enumerate(titles[: len(widths)]):
        widths[i] = max(widths[i], round(font.getlength(title)))
    header = round(font.size * 1.6) if titles else 0
    lefts = [GAP]
    for width in widths:
        lefts.append(lefts[-1] + width + GAP)
    sheet = np.full((header + GAP + (height + GAP) * len(cells), lefts[-1], 3), 255, np.uint8)
    for r, row in enumerate(cells):
        top = header + GAP + r * (height + GAP)
        for left, cell in zip(lefts, row, strict=False):
            sheet[top : top + height, left : left + cell.shape[1]] = cell
    canvas = Image.fromarray(sheet)
    for left, title in zip(lefts, titles, strict=False):
        write(ImageDraw.Draw(canvas), left, GAP + header / 2, title, font, _GREY)
    return np.array(canvas)


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
