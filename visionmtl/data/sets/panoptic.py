"""Panoptic labels in COCO's format: a json file, and images whose colours are segment numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl._images import is_there, read_bytes, read_image
from visionmtl.data.coco import Category, class_ids, positions
from visionmtl.data.sets.labels import labels_from
from visionmtl.types import DenseTarget


@dataclass(slots=True)  # as in visionmtl.data.coco
class _Segment:
    id: Annotated[int, Field(gt=0, lt=2**24)]
    category_id: int


@dataclass(slots=True)
class _Annotation:
    file_name: str
    segments_info: list[_Segment]


class _Panoptic(BaseModel):
    """The parts of the file that are used; others are allowed."""

    annotations: list[_Annotation]
    categories: list[Category]


class PanopticSegments:
    """The segments of a COCO panoptic file, as flat arrays that worker processes share.

    Args:
        path: the json file; its images are in a folder of its name, beside it or beside the folder
            it is in.
        classes: class names of the task; categories are matched with them by name.

    Attributes:
        names: the listed images, without ending, sorted, str (N,).

    Raises:
        ValueError: the file is malformed, lists an image twice or has a category that is no class,
            or the folder of its images is not there.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._folder = _label_folder(path)
        panoptic = validated(_Panoptic, read_bytes(path), path)
        label = class_ids(panoptic.categories, classes, path)
        notes = {PurePosixPath(note.file_name).stem: note for note in panoptic.annotations}
        names = [PurePosixPath(note.file_name).stem for note in panoptic.annotations]
        positions(names, path, "image")
        bounds = [0]
        ids = []
        labels = []
        for name in sorted(names):
            for segment in notes[name].segments_info:
                category = segment.category_id
                if category not in label:
                    raise ValueError(
                        f"{path}: a segment has category_id {category}, which is not listed"
                    )
                ids.append(segment.id)
                labels.append(label[category])
            bounds.append(len(ids))
        self.names = np.array(sorted(names), str)
        self._bounds = np.array(bounds)
        self._ids = np.array(ids, np.int32)
        self._labels = np.array(labels, np.uint8)

    def read(self, sample_id: str) -> DenseTarget | None:
        """The classes of an image; None where the file does not list it, or its labels are missing.

        Raises:
            ValueError: unreadable labels, or segments that the file does not list.
        """
        position = int(np.searchsorted(self.names, sample_id))
        path = self._folder / f"{sample_id}.png"
        if position == len(self.names) or self.names[position] != sample_id or not is_there(path):
            return None
        span = slice(*self._bounds[position : position + 2])
        label = dict(zip(self._ids[span].tolist(), self._labels[span].tolist(), strict=True))
        label[0] = -1  # void
        red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
        ids, index = np.unique(red + 256 * green + 65536 * blue, return_inverse=True)
        table = _table(ids, label, path)
        return labels_from(index.reshape(red.shape), table, path)


def _label_folder(path: Path) -> Path:
    """The folder of the label images of a json file."""
    beside = path.with_suffix("")
    for folder in (beside, path.parent.parent / path.stem):
        if folder.is_dir():
            return folder
    raise ValueError(f"{path}: its label images are missing, unpack {path.stem}.zip as {beside}")


def _table(ids: np.ndarray, label: Mapping[int, int], path: Path) -> np.ndarray:
    """The label of each segment number."""
    unknown = [str(number) for number in ids.tolist() if number not in label]
    if unknown:
        listed = ", ".join(unknown[:10])
        raise ValueError(f"{path}: segments that the json file does not list: {listed}")
    return np.array([label[number] for number in ids.tolist()])
