"""COCO instances, as written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_coco(
    path: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    classes: Sequence[str],
) -> None:
    """COCO instances: what the results format lacks is added.

    Args:
        path: the file.
        images: ``id``, ``file_name``, ``width`` and ``height`` of each.
        annotations: ``image_id``, ``category_id`` and ``bbox`` (x, y, width, height) of each.
        classes: their names, by category id.
    """
    full = []
    for number, annotation in enumerate(annotations, start=1):
        area = round(annotation["bbox"][2] * annotation["bbox"][3], 2)
        full.append({"id": number, **annotation, "area": area, "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    content = {"images": images, "annotations": full, "categories": categories}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
