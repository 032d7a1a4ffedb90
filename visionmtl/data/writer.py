"""Writing of one split in the folder format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionmtl.data.description import StoredTask
from visionmtl.data.labels import IMAGE_SUFFIXES
from visionmtl.tasks.coco import write_coco
from visionmtl.tasks.drawing import save_image
from visionmtl.types import BoxTarget, Sample


class SplitWriter:
    """One split in the making.

    Args:
        folder: of the split, made here.
        tasks: what is written of each sample, and how.
    """

    def __init__(self, folder: Path, tasks: Sequence[StoredTask]) -> None:
        self._folder = folder
        self._tasks = tasks
        self._ids: dict[str, str] = {}
        self._boxes: dict[str, _Boxes] = {}
        (folder / "rgb").mkdir(parents=True, exist_ok=True)
        for task in tasks:
            if not task.spec.kind.has_boxes:
                (folder / task.name).mkdir(exist_ok=True)

    def add(self, sample: Sample, stem: str, source: Path | None = None) -> None:
        """Write a sample.

        Args:
            sample: image and targets.
            stem: of its files.
            source: the file of its image, which is then copied byte by byte; None if it has none.

        Raises:
            ValueError: another sample has these files.
        """
        other = self._ids.setdefault(stem.casefold(), sample.sample_id)
        if other != sample.sample_id:
            raise ValueError(f"its file would be that of {other!r}")
        image = self._folder / "rgb" / f"{stem}.png"
        if source is not None and source.suffix.lower() in IMAGE_SUFFIXES:
            image = image.with_name(stem + source.suffix.lower())
            shutil.copyfile(source, image)
        else:
            save_image(image, sample.image)
        for task in self._tasks:
            target = sample.targets.get(task.name)
            if isinstance(target, BoxTarget):
                boxes = self._boxes.setdefault(task.name, _Boxes())
                boxes.add(target, image.name, sample.image.shape[:2])
            elif target is not None:
                file = self._folder / task.name / f"{stem}{task.codec.suffixes[0]}"
                task.codec.write(file, target)

    def close(self) -> None:
        """Write what all samples share, and leave no folder of a task without labels."""
        for task in self._tasks:
            if task.name in self._boxes:
                boxes = self._boxes[task.name]
                file = self._folder / f"{task.name}.json"
                write_coco(file, boxes.images, boxes.annotations, task.spec.classes)
            elif not task.spec.kind.has_boxes:
                labels = self._folder / task.name
                if not any(labels.iterdir()):
                    labels.rmdir()


class _Boxes:
    """The boxes of a split, as COCO lists them."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, target: BoxTarget, name: str, size: tuple[int, ...]) -> None:
        """The boxes of an image of a size (H, W)."""
        image_id = len(self.images)
        height, width = size
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        rows = zip(target.boxes.tolist(), target.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), label in rows:
            box = [x1, y1, x2 - x1, y2 - y1]
            self.annotations.append({"image_id": image_id, "category_id": label, "bbox": box})
