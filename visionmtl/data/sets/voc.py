"""Boxes of one image from an annotation file of PASCAL VOC, which is XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from visionmtl._images import read_bytes
from visionmtl.types import BoxTarget

MAX_BYTES = 1_000_000
"""Real files have a few kilobytes."""


def read_voc_boxes(
    path: Path, classes: Sequence[str], size: tuple[int, int], difficult: bool = False
) -> tuple[BoxTarget, int]:
    """The boxes of an ``Annotations/<id>.xml``.

    VOC counts pixels from 1 and includes both ends: the box of a single pixel is (3, 3, 3, 3). Here
    it is (2, 2, 3, 3), the edges of that pixel. What lies outside the picture is cut off. Boxes of
    parts (head, hand, foot) are not read.
    Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2010/, development kit, section "Object
        annotation".

    Args:
        path: the file.
        classes: class names of the task; an object of another class is an error.
        size: (width, height) of the image.
        difficult: whether objects marked ``difficult`` are kept.

    Returns:
        The boxes, in the order of the file, and the number of difficult objects left out.

    Raises:
        ValueError: unreadable file, malformed or hostile XML, missing entries, another size, an
            unknown class, a box without area.
    """
    root = _parse(path)
    width = _number(root, "size/width", path)
    height = _number(root, "size/height", path)
    if width != size[0] or height != size[1]:
        raise ValueError(
            f"{path}: the size is {width:g}x{height:g}, the image is {size[0]}x{size[1]}"
        )
    boxes = []
    labels = []
    left_out = 0
    for found in root.findall("object"):
        name = (found.findtext("name") or "").strip()
        if name not in classes:
            raise ValueError(
                f"{path}: object of class {name!r}; classes of the task: {', '.join(classes)}"
            )
        if not difficult and (found.findtext("difficult") or "0").strip() != "0":
            left_out += 1
            continue
        edges = ("xmin", "ymin", "xmax", "ymax")
        corners = np.array([_number(found, f"bndbox/{edge}", path) for edge in edges])
        box = np.clip(corners - (1, 1, 0, 0), 0, size * 2)
        if not (box[:2] < box[2:]).all():
            raise ValueError(
                f"{path}: {name} with the box {corners.tolist()} has no area inside the image"
            )
        boxes.append(box)
        labels.append(classes.index(name))
    target = BoxTarget(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return target, left_out


def _parse(path: Path) -> ElementTree.Element:
    """The root of the document; entities, which can grow without bound, need a DOCTYPE and are
    refused with it.
    """
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path}: XML with a document type is not read")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: broken XML: {error}") from error


def _number(element: ElementTree.Element, key: str, path: Path) -> float:
    text = element.findtext(key)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{path}: {element.tag}/{key} must be a number, got {text!r}")
    return value
