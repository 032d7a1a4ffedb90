"""Boxes of one split from a COCO instances file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl._images import read_bytes
from visionmtl.types import BoxTarget


# Files have a million entries: dataclasses are quicker and smaller than pydantic's models, and
# checked alike.
@dataclass(slots=True)
class _Image:
    id: int | str
    file_name: str
    width: Annotated[int, Field(gt=0, lt=2**31)]
    height: Annotated[int, Field(gt=0, lt=2**31)]


@dataclass(slots=True)
class _Annotation:
    image_id: int | str
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: int = 0


class Category(BaseModel):
    """A class as COCO files list it."""

    id: int
    name: str


class _Instances(BaseModel):
    """The parts of the file that are used; others are allowed."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[Category]


class CocoBoxes:
    """The boxes of a file, as flat arrays that worker processes share. Images are known by the stem
    of their name.

    Args:
        path: the file.
        classes: class names of the task; categories are matched with them by name.

    Attributes:
        ids: the listed images.
        dropped: reason -> number of annotations that do not become boxes: ``crowd`` (iscrowd = 1, a
            region and not one object), ``not finite``, ``no area``, ``outside`` the image. Boxes
            partly outside are clipped.

    Raises:
        ValueError: the file is malformed, repeats an id or a name, or has a category that is no
            class.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        coco = validated(_Instances, read_bytes(path), path)
        position = positions([image.id for image in coco.images], path, "image id")
        stems = [PurePosixPath(image.file_name).stem for image in coco.images]
        positions(stems, path, "image")
        label = class_ids(coco.categories, classes, path)
        for note in coco.annotations:
            if note.image_id not in position or note.category_id not in label:
                ids = f"image_id {note.image_id!r} and category_id {note.category_id}"
                raise ValueError(f"{path}: an annotation has {ids}, of which one is not listed")
        owner = np.array([position[note.image_id] for note in coco.annotations], np.int64)
        labels = np.array([label[note.category_id] for note in coco.annotations], np.int64)
        image_sizes = [(image.width, image.height) for image in coco.images]
        sizes = np.array(image_sizes, np.int64).reshape(-1, 2)
        xywh = np.array([note.bbox for note in coco.annotations]).reshape(-1, 4)
        boxes, fault = _clip_boxes(xywh, sizes[owner])
        fault[[note.iscrowd != 0 for note in coco.annotations]] = "crowd"
        kept = np.flatnonzero(fault == "")
        kept = kept[np.argsort(owner[kept], kind="stable")]
        self._boxes = boxes[kept]
        self._labels = labels[kept]
        bounds = np.searchsorted(owner[kept], np.arange(len(stems) + 1)).tolist()
        self._spans: dict[str, tuple[slice, tuple[int, int]]] = {}
        for i, (stem, size) in enumerate(zip(stems, image_sizes, strict=True)):
            self._spans[stem] = (slice(bounds[i], bounds[i + 1]), size)
        self.ids = set(self._spans)
        self.dropped = Counter(fault[fault != ""].tolist())

    def paths(self) -> list[Path]:
        """The file."""
        return [self.path]

    def read(self, sample_id: str, size: tuple[int, int]) -> BoxTarget | None:
        """The boxes of an image of ``size`` (width, height); None where the image is not listed.

        Raises:
            ValueError: the file gives another size.
        """
        if sample_id not in self._spans:
            return None
        span, listed = self._spans[sample_id]
        if listed != size:
            found = f"size of {sample_id!r} is {listed[0]}x{listed[1]}"
            raise ValueError(f"{self.path}: {found}, the image is {size[0]}x{size[1]}")
        return BoxTarget(self._boxes[span].copy(), self._labels[span].copy())


def positions(names: Sequence[Hashable], path: Path, what: str) -> dict[Any, int]:
    """Name -> position.

    Raises:
        ValueError: a name is repeated; the message has the file ``path`` and ``what`` the names are
            of.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {what} {repeated[0]!r} is listed more than once")
    return {name: position for position, name in enumerate(names)}


def class_ids(categories: Sequence[Category], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Category id -> class id."""
    positions([category.id for category in categories], path, "category id")
    positions([category.name for category in categories], path, "category")
    for category in categories:
        if category.name not in classes:
            known = ", ".join(classes)
            raise ValueError(
                f"{path}: unknown category {category.name!r}; classes of the task: {known}"
            )
    return {category.id: classes.index(category.name) for category in categories}


def _clip_boxes(xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners clipped to the images, float32 (N, 4), and why a box cannot be used, str (N,), empty
    where it can.
    """
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    clipped = np.clip(corners, 0, np.tile(sizes, 2)).astype(np.float32)
    faults = {
        "not finite": ~np.isfinite(corners).all(axis=1),
        "no area": ~(xywh[:, 2:] > 0).all(axis=1),
        "outside": ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1),
    }
    return clipped, np.select(list(faults.values()), list(faults), "").astype(object)
