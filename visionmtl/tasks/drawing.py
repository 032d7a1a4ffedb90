"""Pictures of targets and predictions: every function returns a new uint8 (H, W, 3) RGB array.

Normals are shown with their usual colours: right is red, up is green, towards the camera is blue.
The camera frame has y down and z forward, so red = (x + 1) / 2, green = (1 - y) / 2, blue = (1 - z)
/ 2. Depth and disparity run from warm (near) to cool (far). Salient pixels are warm over the image,
edges are bright lines. Pixels without a value are black.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 8  # white pixels around the cells of a grid


@lru_cache
def palette(num_classes: int) -> np.ndarray:
    """Distinct colours, uint8 (num_classes, 3): each is the candidate farthest, in CIE Lab, from
    all before it.

    The first colours do not depend on ``num_classes``. The array is shared and read-only.
    """
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    lab = cv2.cvtColor(cube.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[:, 0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    pleasant = (
        (lab[:, 0] > 38) & (lab[:, 0] < 88) & (chroma > 22) & (chroma < 75)
    )  # neither dull nor glaring
    colours, lab = cube[pleasant, 0], lab[pleasant]
    chosen = [
        int(np.linalg.norm(lab - np.array([55, -5, -45]), axis=1).argmin())
    ]  # starts at a calm blue
    nearest = np.full(len(lab), np.inf)
    while len(chosen) < num_classes:
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    out: np.ndarray = colours[chosen[:num_classes]]
    out.flags.writeable = False
    return out


def draw_semseg(
    class_ids: np.ndarray,
    valid: np.ndarray | None,
    image: np.ndarray | None,
    classes: Sequence[str],
    alpha: float = 0.65,
) -> np.ndarray:
    """Class colours over the image, with a legend of the largest classes present.

    Args:
        class_ids: integers (H, W).
        valid: bool (H, W), or None where every pixel counts. Invalid pixels are black, blended as
            the classes are.
        image: uint8 (H, W, 3) underneath; None gives the plain colours.
        classes: class names by id.
        alpha: opacity of the colours, 0..1.
    """
    colours = np.vstack([palette(len(classes)), np.zeros((256 - len(classes), 3), np.uint8)])
    picture = colours[class_ids if valid is None else np.where(valid, class_ids, 255)]
    if image is not None:
        picture = cv2.addWeighted(picture, alpha, image, 1 - alpha, 0)
    counts = np.bincount(
        (class_ids if valid is None else class_ids[valid]).ravel(), minlength=len(classes)
    )
    present = [int(k) for k in np.argsort(-counts[: len(classes)], kind="stable") if counts[k]]
    return _legend(picture, [(classes[k], colours[k]) for k in present])


def draw_depth(
    metres: np.ndarray, valid: np.ndarray | None = None, max_depth: float | None = None
) -> np.ndarray:
    """Depth (H, W) in metres, near is warm and far is cool, with a scale that starts at 0.

    ``max_depth`` is the far end of the colours; None takes the 98th percentile of the picture
    itself. Give the same value to pictures that are to be compared.
    """
    share, max_depth = _share(metres, valid, max_depth)
    return _scale(_coloured(1 - share), f"{max_depth:.3g} m", (255, 0))


def draw_disparity(
    disparity: np.ndarray, valid: np.ndarray | None = None, max_disparity: float | None = None
) -> np.ndarray:
    """Disparity (H, W), near (large) is warm, far is cool; ``max_disparity`` is as ``max_depth`` in
    ``draw_depth``.
    """
    share, max_disparity = _share(disparity, valid, max_disparity)
    return _scale(_coloured(share), f"{max_disparity:.3g}", (0, 255))


def draw_saliency(
    probability: np.ndarray, valid: np.ndarray | None, image: np.ndarray
) -> np.ndarray:
    """Probability (H, W) in 0..1: what is salient glows over the image, uint8 (H, W, 3), the rest
    is dark and grey.
    """
    glow = cv2.addWeighted(image, 0.55, np.full_like(image, (255, 120, 0)), 0.45, 0)
    return _blended(probability, valid, _grey(image, 0.45), glow)


def draw_edges(probability: np.ndarray, valid: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Probability (H, W) in 0..1 as bright lines over the darkened image, uint8 (H, W, 3)."""
    return _blended(probability, valid, _grey(image, 0.3), np.full_like(image, (255, 225, 130)))


def draw_normals(vectors: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Unit vectors (H, W, 3) in the camera frame: right is red, up is green, towards the camera is
    blue.
    """
    facing = vectors * np.array([127.5, -127.5, -127.5], np.float32) + np.float32(127.5)
    picture: np.ndarray = np.nan_to_num(facing).round().clip(0, 255).astype(np.uint8)
    if valid is not None:
        picture[~valid] = 0
    return picture


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[str],
) -> np.ndarray:
    """Boxes (N, 4) x1 y1 x2 y2 in pixels over the image, each with its class and, where given, its
    score in 0..1.
    """
    canvas = Image.fromarray(image)
    draw, font = ImageDraw.Draw(canvas), _font_for(image)
    width = max(1, round(min(image.shape[:2]) ** 0.5 / 8))
    order = (
        np.arange(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    )  # the best come on top
    corners = boxes.round().astype(int).tolist()
    for i in order:
        x1, y1, x2, y2 = corners[i]
        colour = tuple(palette(len(classes))[labels[i]].tolist())
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=width)
    for i in order:
        text = classes[labels[i]] + ("" if scores is None else f" {scores[i]:.2f}")
        _label(draw, text, corners[i][0], corners[i][1], palette(len(classes))[labels[i]], font)
    return np.array(canvas)


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
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one image")
    height = height or max(cell.shape[0] for row in rows for cell in row)
    cells = [[_to_height(cell, height) for cell in row] for row in rows]
    font = _font(max(11, round(height / 18)))
    titles = list(titles or [])
    columns = [
        max(
            [row[i].shape[1] for row in cells if i < len(row)]
            + [round(font.getlength(t)) for t in titles[i : i + 1]]
        )
        for i in range(max(map(len, cells)))
    ]
    header = round(font.size * 1.6) if titles else 0
    size = (header + GAP + (height + GAP) * len(cells), GAP + sum(columns) + GAP * len(columns), 3)
    sheet = np.full(size, 255, np.uint8)
    lefts = np.cumsum([GAP, *(c + GAP for c in columns)]).tolist()
    for r, row in enumerate(cells):
        top = header + GAP + r * (height + GAP)
        for left, cell in zip(lefts, row, strict=False):
            sheet[top : top + height, left : left + cell.shape[1]] = cell
    canvas = Image.fromarray(sheet)
    for left, title in zip(lefts, titles, strict=False):
        ImageDraw.Draw(canvas).text(
            (left, GAP + header / 2), title, fill=(40, 40, 40), font=font, anchor="lm"
        )
    return np.array(canvas)


def save_image(path: Path | str, array: np.ndarray) -> None:
    """Write RGB uint8 (H, W, 3), or one channel uint8 or uint16 (H, W), in the format that the
    suffix names.

    Raises:
        ValueError: the folder does not exist, or the format is unknown or cannot hold the array.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: cannot write, the folder {path.parent} does not exist")
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    try:  # imwrite fails without a word and cannot take every file name: encode here, write with Python
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(
            f"{path}: cannot write {array.dtype} of shape {array.shape} as {path.suffix or 'no suffix'!r}"
        )
    path.write_bytes(encoded.tobytes())


def _share(
    values: np.ndarray, valid: np.ndarray | None, largest: float | None
) -> tuple[np.ndarray, float]:
    """Values as a share of the largest, 0..1 or nan where invalid, and the largest, by default the
    98th percentile.
    """
    valid = np.isfinite(values) if valid is None else valid & np.isfinite(values)
    if largest is None:
        known = values[valid]
        largest = (
            max(float(np.percentile(known[:: 1 + known.size // 1_000_000], 98)), 1e-3)
            if known.size
            else 1.0
        )
    return np.where(valid, np.clip(np.where(valid, values, 0) / largest, 0, 1), np.nan), largest


def _coloured(nearness: np.ndarray) -> np.ndarray:
    """0..1 from cool to warm, nan black."""
    picture = _turbo((np.nan_to_num(nearness) * 255).round().astype(np.uint8))
    picture[np.isnan(nearness)] = 0
    return picture


def _grey(image: np.ndarray, brightness: float) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) * np.float32(brightness)
    return grey.astype(np.uint8)[..., None].repeat(3, -1)


def _blended(
    probability: np.ndarray, valid: np.ndarray | None, no: np.ndarray, yes: np.ndarray
) -> np.ndarray:
    """From the picture of 0 to the picture of 1; invalid pixels are black."""
    share = np.nan_to_num(probability.astype(np.float32)).clip(0, 1)[..., None]
    picture: np.ndarray = (no * (1 - share) + yes * share).round().astype(np.uint8)
    if valid is not None:
        picture[~valid] = 0
    return picture


def _turbo(codes: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.applyColorMap(codes, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def _font_for(image: np.ndarray) -> ImageFont.FreeTypeFont:
    """Text that suits the size of the image."""
    return _font(max(10, round(min(image.shape[:2]) / 32)))


def _dim(picture: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """Darken a plate in the lower left corner, in place; returns its left and top."""
    top = picture.shape[0] - height
    picture[top:, :width] = picture[top:, :width] // 3
    return 0, top


def _legend(picture: np.ndarray, entries: list[tuple[str, np.ndarray]]) -> np.ndarray:
    font = _font_for(picture)
    line = round(font.size * 1.35)
    entries = entries[: int(picture.shape[0] * 0.6) // line]
    if not entries:
        return picture
    pad = line // 3
    width = 3 * pad + line // 2 + round(max(font.getlength(name) for name, _ in entries))
    left, top = _dim(picture, width, line * len(entries) + pad)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for i, (name, colour) in enumerate(entries):
        x, y = left + pad, top + pad // 2 + i * line
        draw.rectangle(
            (x, y + line // 4, x + line // 2, y + 3 * line // 4), fill=tuple(colour.tolist())
        )
        draw.text(
            (x + line // 2 + pad, y + line / 2), name, fill=(255, 255, 255), font=font, anchor="lm"
        )
    return np.array(canvas)


def _scale(picture: np.ndarray, end: str, codes: tuple[int, int]) -> np.ndarray:
    """Shows which colours lead from 0 to the ``end``: those between two ``codes`` of the colour
    map.
    """
    font = _font_for(picture)
    line, bar = round(font.size * 1.35), 6 * round(font.size)
    pad = line // 3
    start = 2 * pad + round(font.getlength("0"))
    width = start + bar + 2 * pad + round(font.getlength(end))
    if picture.shape[0] < 3 * line or picture.shape[1] < width:
        return picture
    left, top = _dim(picture, width, line + pad)
    ramp = np.linspace(*codes, bar).astype(np.uint8)[None].repeat(line // 2, 0)
    y = top + pad // 2 + line // 4
    picture[y : y + line // 2, start : start + bar] = _turbo(ramp)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for x, text in ((left + pad, "0"), (start + bar + pad, end)):
        draw.text((x, top + (line + pad) / 2), text, fill=(255, 255, 255), font=font, anchor="lm")
    return np.array(canvas)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    x: int,
    y: int,
    colour: np.ndarray,
    font: ImageFont.FreeTypeFont,
) -> None:
    """A tag on top of its box; inside the box, or shifted, where it would leave the picture."""
    width, height = round(font.getlength(text)) + 6, round(font.size * 1.3)
    x = max(0, min(x, draw.im.size[0] - width))
    y = y - height if y >= height else max(y, 0)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=tuple(colour.tolist()))
    dark = float(colour @ np.array([0.299, 0.587, 0.114])) < 140
    draw.text(
        (x + 3, y + height / 2),
        text,
        fill=(255, 255, 255) if dark else (0, 0, 0),
        font=font,
        anchor="lm",
    )


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
