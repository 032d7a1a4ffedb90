"""NYUv2 as the authors of MTAN packed it: npy files of 288 x 384, 13 classes, depth and normals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from visionmtl._images import is_there
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.sets.ids import list_numbered
from visionmtl.data.sets.labels import Frame
from visionmtl.data.sets.npy import (
    read_npy_depth,
    read_npy_labels,
    read_npy_normals,
    read_unit_image,
)
from visionmtl.data.sets.nyuv2 import MAX_DEPTH, nyuv2_tasks
from visionmtl.types import Target, TaskSpec

FOLDERS = {"semseg": "label", "depth": "depth", "normals": "normal"}
"""Task -> folder of its labels."""


@DATASETS.register("nyuv2_mtan")
class NYUv2MTAN(PackedDataset):
    """``<root>/{train,val}/{image,label,depth,normal}/<i>.npy``, 795 and 654 files; ``val`` is the
    test set.

    - image: float (H, W, 3), 0..1.
    - semseg, 13 classes: integers or floats (H, W); -1 is void, 0..12 the classes.
    - depth: metres (H, W, 1) or (H, W); 0 is invalid.
    - normals: (H, W, 3), -1..1; (0, 0, 0) is invalid.

    Ids are the numbers in the file names, by their value: 9 comes before 10.

    Source: https://github.com/lorenmt/mtan, README and its issues 10 and 11.

    Args:
        root: the folder of the data set.
        split: ``train`` or ``val``.
        tasks: the wanted tasks.
        normals_frame: axes of the stored normals. The authors took them from
            the files ``normals_gt`` of Eigen and Fergus, where no text states it. ``z_up`` is what
            two public programs found: zeya-labs/Infinity, which aligns this packing with the output
            of several networks, and the loader of EPFL-VILAB/XTConsistency. docs/datasets.md shows
            how to compare the normals with the depth of a copy.

    Raises:
        ValueError: also file names that are not numbers.
    """

    title: ClassVar[str] = "NYUv2 in the MTAN packing (npy, 13 classes)"
    layout: ClassVar[str] = "train/ and val/ with image/, label/, depth/ and normal/ of .npy files"

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        normals_frame: Frame = "z_up",
    ) -> None:
        self.normals_frame = normals_frame
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return all((root / "train" / folder).is_dir() for folder in ("image", "label", "normal"))

    def specs(self) -> list[TaskSpec]:
        return nyuv2_tasks(13)

    def needs(self) -> dict[str, Path]:
        return {task: self.root / self.split / folder for task, folder in FOLDERS.items()}

    def list_ids(self) -> list[str]:
        return list_numbered(self.root / self.split / "image")

    def read_image(self, sample_id: str) -> np.ndarray:
        return read_unit_image(self._path("image", sample_id))

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self._path(FOLDERS[task], sample_id)
        if not is_there(path):
            return None
        if task == "semseg":
            return read_npy_labels(path, num_classes=13)
        if task == "depth":
            return read_npy_depth(path, MAX_DEPTH)
        return read_npy_normals(path, self.normals_frame)

    def _path(self, folder: str, sample_id: str) -> Path:
        return self.root / self.split / folder / f"{sample_id}.npy"
