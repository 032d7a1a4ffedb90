"""COCO 2017: photographs with boxes of 80 classes of things and panoptic labels of 133 classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from visionmtl.data.base import DATASETS
from visionmtl.data.coco import CocoBoxes
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.panoptic import PanopticSegments
from visionmtl.types import Target, TaskSpec


@DATASETS.register("coco")
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
            missing = sorted(listed.difference(self._ids))
            if missing:
                image = f"{split}2017/{missing[0]}.jpg, which is not there"
                number = f"{len(missing)} of {len(listed)}"
                raise ValueError(f"{path}: lists {image}; missing: {number}")

    @classmethod
    def matches(cls, root: Path) -> bool:
        has_images = any((root / f"{split}2017").is_dir() for split in cls.splits)
        return has_images and (root / "annotations").is_dir()

    def specs(self) -> list[TaskSpec]:
        return [
            TaskSpec.semseg(facts("coco")["classes"]),
            TaskSpec.detection(facts("coco")["things"]),
        ]

    def needs(self) -> dict[str, Path]:
        folder = self.root / "annotations"
        return {
            "semseg": folder / f"panoptic_{self.split}2017.json",
            "detection": folder / f"instances_{self.split}2017.json",
        }

    def list_ids(self) -> list[str]:
        return sorted(path.stem for path in (self.root / f"{self.split}2017").glob("[!.]*.jpg"))

    def image_path(self, sample_id: str) -> Path:
        return self.root / f"{self.split}2017" / f"{sample_id}.jpg"

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        if task == "detection":
            return self._boxes.read(sample_id, size)
        return self._segments.read(sample_id)
