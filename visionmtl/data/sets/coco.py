"""COCO 2017: photographs with boxes of 80 classes of things and panoptic labels of 133 classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl.data.coco import Category, CocoBoxes, class_ids, positions
from visionmtl._images import is_there, read_bytes, read_image
from visionmtl.data.sets.base import PackedDataset, facts, labels_from
from visionmtl.types import BoxTarget, DenseTarget, Target, TaskSpec


class Coco(PackedDataset):
    """``<root>/{train,val}2017/<id>.jpg``, 118287 and 5000 images, and ``<root>/annotations``.

    - semseg, 133 classes (80 of things, 53 of stuff): ``annotations/panoptic_{train,val}2017.json``
      and its images, in ``annotations/panoptic_{train,val}2017`` or beside ``annotations``; the
      pixels of a segment get its category, also those of a crowd. Pixels without segment are
      invalid.
    - detection, 80 classes: ``annotations/instances_{train,val}2017.json``. Crowds are regions and
      no objects: they become no boxes, and are counted. An image that is listed without annotations
      is annotated and empty.

    The ids are the file names, ``000000000139``. An image that the json file of a task does not
    list is not annotated for it. Sources: https://cocodataset.org/#format-data,
    https://github.com/cocodataset/panopticapi.

    Args:
        root: the folder of the data set.
        split: ``train`` or ``val``.
        tasks: the wanted tasks.

    Attributes:
        dropped_boxes: reason -> number of annotations that do not become boxes, see
            ``visionmtl.data.coco.CocoBoxes``.

    Raises:
        ValueError: also a malformed json file, one that lists images which are not there, and
            panoptic labels whose images are not there.
    """

    packing: ClassVar[str] = "coco"
    title: ClassVar[str] = "COCO 2017"
    layout: ClassVar[str] = "train2017/, val2017/ and annotations/"

    def __init__(self, root: Path | str, split: str, tasks: Sequence[str] | None = None) -> None:
        super().__init__(root, split, tasks)
        self.dropped_boxes: dict[str, int] = {}
        for spec in self.tasks:
            path = self.needs()[spec.name]
            if spec.kind.has_boxes:
                self._boxes = CocoBoxes(path, spec.classes)
                self.dropped_boxes = dict(self._boxes.dropped)
                listed = self._boxes.ids
            else:
                self._segments = PanopticSegments(path, spec.classes)
                listed = set(self._segments.names.tolist())
            if missing := sorted(listed.difference(self._ids)):
                image = f"{split}2017/{missing[0]}.jpg"
                raise ValueError(
                    f"{path}: lists {image}, which is not there; missing: {len(missing)} of {len(listed)}"
                )

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / "annotations").is_dir() and any(
            (root / f"{split}2017").is_dir() for split in cls.splits
        )

    def specs(self) -> list[TaskSpec]:
        return [
            TaskSpec.semseg(facts("coco")["classes"]),
            TaskSpec.detection(facts("coco")["things"]),
        ]

    def needs(self) -> dict[str, Path]:
        names = {"semseg": "panoptic", "detection": "instances"}
        return {
            task: self.root / "annotations" / f"{name}_{self.split}2017.json"
            for task, name in names.items()
        }

    def list_ids(self) -> list[str]:
        return sorted(path.stem for path in (self.root / f"{self.split}2017").glob("[!.]*.jpg"))

    def image_file(self, sample_id: str) -> Path:
        return self.root / f"{self.split}2017" / f"{sample_id}.jpg"

    def read_target(self, task: str, sample_id: str) -> Target | None:
        return self._segments.read(sample_id)

    def read_boxes(self, task: str, sample_id: str, size: tuple[int, int]) -> BoxTarget | None:
        return self._boxes.read(sample_id, size)


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
        folders = (path.with_suffix(""), path.parent.parent / path.stem)
        self._folder = next((folder for folder in folders if folder.is_dir()), folders[0])
        if not self._folder.is_dir():
            raise ValueError(
                f"{path}: its label images are missing, unpack {path.stem}.zip as {folders[0]}"
            )
        panoptic = validated(_Panoptic, read_bytes(path), path)
        label = class_ids(panoptic.categories, classes, path)
        names = [PurePosixPath(note.file_name).stem for note in panoptic.annotations]
        positions(names, path, "image")
        order = sorted(range(len(names)), key=names.__getitem__)
        notes = [panoptic.annotations[i] for i in order]
        segments = [segment for note in notes for segment in note.segments_info]
        for segment in segments:
            if segment.category_id not in label:
                raise ValueError(
                    f"{path}: a segment has category_id {segment.category_id}, which is not listed"
                )
        self.names = np.array([names[i] for i in order], str)
        self._bounds = np.cumsum([0, *(len(note.segments_info) for note in notes)])
        self._ids = np.array([segment.id for segment in segments], np.int32)
        self._labels = np.array([label[segment.category_id] for segment in segments], np.uint8)

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
        label = {
            0: -1,
            **dict(zip(self._ids[span].tolist(), self._labels[span].tolist(), strict=True)),
        }  # 0 is void
        red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
        ids, index = np.unique(red + 256 * green + 65536 * blue, return_inverse=True)
        if unknown := [number for number in ids.tolist() if number not in label]:
            raise ValueError(
                f"{path}: segments that the json file does not list: {', '.join(map(str, unknown[:10]))}"
            )
        return labels_from(
            index.reshape(red.shape), np.array([label[number] for number in ids.tolist()]), path
        )
