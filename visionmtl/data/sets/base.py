"""What the readers of the standard data sets share.

A packing is one way in which a data set lies on people's disks. Copies of one set differ in files,
classes, units and sentinels; a reader knows exactly one packing and refuses every other, in one
sentence that says what the folder is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from visionmtl._files import read_json
from visionmtl._images import read_image
from visionmtl.data.base import DATASETS, identify, title_of
from visionmtl.data.coco import positions
from visionmtl.types import Camera, DenseTarget, Sample, Target, TaskSpec


class PackedDataset:
    """One split of a data set in one packing; a ``MultiTaskDataset``.

    A subclass tells its packing from others by the names of files, and reads the parts of a sample.

    Args:
        root: the folder of the data set.
        split: one of ``splits``.
        tasks: names of the wanted tasks, in the wanted order; by default all whose labels are
            there, see ``needs``.

    Attributes:
        title: what messages call it.
        layout: what the folder must hold, in one line.
        splits: names of its splits.
        tasks: the selected tasks, in order.
        dropped_boxes: reason -> number of annotations that do not become boxes.

    Raises:
        ValueError: the folder is another packing or none, unknown split or task, a wanted task
            whose labels are not there, no samples.
    """

    title: ClassVar[str]
    layout: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    dropped_boxes: Mapping[str, int] = MappingProxyType({})

    def __init__(self, root: Path | str, split: str, tasks: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        self.split = split
        self._refuse_others()
        if split not in self.splits:
            raise ValueError(
                f"{self.root}: no split {split!r}; {self.title} has {', '.join(self.splits)}"
            )
        self.tasks = self._select(tasks)
        self._ids = self.list_ids()
        if not self._ids:
            raise ValueError(f"{self.root}: split {split!r} has no samples")
        positions(self._ids, self.root, "sample")

    @property
    def packing(self) -> str:
        """Its name in a config."""
        return DATASETS.name_of(type(self))

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether ``root`` looks like this packing and no other; looks at names, reads no file."""
        raise NotImplementedError

    def specs(self) -> list[TaskSpec]:
        """Every task of the packing, in order."""
        raise NotImplementedError

    def needs(self) -> dict[str, Path]:
        """Task -> the file or folder without which no sample of the split is annotated for it."""
        return {}

    def list_ids(self) -> list[str]:
        """The ids of the split, sorted; they may hold ``/`` and stay the same on every disk."""
        raise NotImplementedError

    def image_path(self, sample_id: str) -> Path | None:
        """The image's file, where each has one of its own; None in arrays and containers, which
        override the next.
        """
        return None

    def read_image(self, sample_id: str) -> np.ndarray:
        """uint8 (H, W, 3) RGB."""
        path = self.image_path(sample_id)
        assert path is not None
        return read_image(path)

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        """The ground truth of one selected task; None where the sample is not annotated.

        Args:
            task: its name.
            sample_id: of the sample.
            size: (width, height) of the image, of which labels must be that know their own.
        """
        raise NotImplementedError

    def camera(self, sample_id: str, height: int, width: int) -> Camera | None:
        """The camera of an image of this size, where the set has one."""
        return None

    def __len__(self) -> int:
        return len(self._ids)

    def sample_id(self, index: int) -> str:
        return self._ids[index]

    def image_file(self, index: int) -> Path | None:
        """The file of a sample's image, where each has one of its own."""
        return self.image_path(self._ids[index])

    def __getitem__(self, index: int) -> Sample:
        sample_id = self._ids[index]
        image = self.read_image(sample_id)
        height, width = image.shape[:2]
        targets: dict[str, Target] = {}
        for spec in self.tasks:
            target = self.read_target(spec.name, sample_id, (width, height))
            if isinstance(target, DenseTarget) and target.valid.shape != (height, width):
                found = f"{spec.name} is {target.valid.shape[1]}x{target.valid.shape[0]}"
                raise ValueError(
                    f"{self.root}: {sample_id}: {found}, the image is {width}x{height}"
                )
            if target is not None:
                targets[spec.name] = target
        return Sample(image, targets, sample_id, self.camera(sample_id, height, width))

    def _refuse_others(self) -> None:
        """Raises ``ValueError`` where the folder is not this packing, and says what it is."""
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        if self.matches(self.root):
            return
        found = identify(self.root)
        what = "it looks like no known packing"
        if found is not None:
            what = f"it looks like {title_of(found)}: use type {found}"
        raise ValueError(f"{self.root}: not {self.title}, which has {self.layout}; {what}")

    def _select(self, tasks: Sequence[str] | None) -> list[TaskSpec]:
        """The wanted tasks, or all that have labels."""
        known = {spec.name: spec for spec in self.specs()}
        absent = self._absent_labels()
        names = [name for name in known if name not in absent]
        if tasks is not None:
            names = list(tasks)
        for name in names or [*absent, ""]:  # without any label, say what the first task needs
            if name in absent:
                raise ValueError(
                    f"{self.root}: task {name!r} needs {absent[name]}, which is not there"
                )
            if name not in known:
                raise ValueError(
                    f"{self.root}: no task {name!r}; {self.title} has {', '.join(known)}"
                )
        positions(names, self.root, "task")
        return [known[name] for name in names]

    def _absent_labels(self) -> dict[str, Path]:
        """Task -> what it needs and is not there.

        Raises:
            ValueError: it is a link to nothing: the disk with the labels may not be mounted.
        """
        absent = {}
        for task, path in self.needs().items():
            if path.is_symlink() and not path.exists():
                raise ValueError(f"{path}: a link to {path.readlink()}, which is not there")
            if not path.exists():
                absent[task] = path
        return absent


@cache
def facts(name: str) -> Any:
    """The content of ``facts/<name>.json``: class lists, maps and splits, with their source under
    ``source``.
    """
    return read_json(Path(str(files("visionmtl.data.sets") / "facts" / f"{name}.json")))
