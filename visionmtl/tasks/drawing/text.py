"""Text in pictures: fonts, legends, tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE = (255, 255, 255)
BLACK = (0, 0, 0)


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font, at a size in pixels."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def font_for(image: np.ndarray) -> ImageFont.FreeTypeFont:
    """Text that suits the size of an image."""
    return font_of(max(10, round(min(image.shape[:2]) / 32)))


def write(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, ...] = WHITE,
) -> None:
    """Write a line; ``y`` is its middle."""
    draw.text((x, y), text, fill=colour, font=font, anchor="lm")


def darken_corner(picture: np.ndarray, width: int, height: int) -> int:
    """Darken a plate in the lower left corner, in place; returns its top."""
    top = picture.shape[0] - height
    picture[top:, :width] = picture[top:, :width] // 3
    return int(top)


def with_legend(picture: np.ndarray, entries: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """A picture with names and their colours in its lower left corner, as many as there is room
    for.
    """
    font = font_for(picture)
    line = round(font.size * 1.35)
    entries = entries[: int(picture.shape[0] * 0.6) // line]
    if not entries:
        return picture
    pad = line // 3
    longest = max(font.getlength(name) for name, _ in entries)
    width = 3 * pad + line // 2 + round(longest)
    top = darken_corner(picture, width, line * len(entries) + pad)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for i, (name, colour) in enumerate(entries):
        y = top + pad // 2 + i * line
        square = (pad, y + line // 4, pad + line // 2, y + 3 * line // 4)
        draw.rectangle(square, fill=tuple(colour.tolist()))
        write(draw, pad + line // 2 + pad, y + line / 2, name, font)
    return np.array(canvas)


def draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    x: int,
    y: int,
    colour: np.ndarray,
    font: ImageFont.FreeTypeFont,
) -> None:
    """A tag on top of its box; inside the box, or shifted, where it would leave the picture."""
    width = round(font.getlength(text)) + 6
    height = round(font.size * 1.3)
    x = max(0, min(x, draw.im.size[0] - width))
    y = max(y, 0) if y < height else y - height
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=tuple(colour.tolist()))
    brightness = float(colour @ np.array([0.299, 0.587, 0.114]))
    ink = WHITE if brightness < 140 else BLACK
    write(draw, x + 3, y + height / 2, text, font, ink)
