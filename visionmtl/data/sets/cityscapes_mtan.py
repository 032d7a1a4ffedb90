"""Cityscapes as the authors of MTAN packed it: npy files of 128 x 256, 7 or 19 classes, disparity
in disguise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from visionmtl._images import is_there
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.cityscapes import MAX_DISPARITY
from visionmtl.data.sets.ids import list_numbered
from visionmtl.data.sets.labels import depth_target
from visionmtl.data.sets.npy import read_npy, read_npy_labels, read_unit_image
from visionmtl.types import Target, TaskSpec

LABEL_FOLDERS = ("label_7", "label_19", "label")
"""The original archives hold the first two; copies with one set of labels have the last."""


@DATASETS.register("cityscapes_mtan")
class CityscapesMTAN(PackedDataset):
    """``<root>/{train,val}/{image,label_7,label_19,depth}/<i>.npy``, 2975 and 500 files, channel
    last.

    - image: float, 0..1.
    - label: -1 is void; 0..6 are the categories of Cityscapes without void, in their order, 0..18
      its training ids.
    - ``depth``: not depth, but the 16-bit code p of the official disparity, divided by 65535; 0 is
      invalid. It becomes the task ``disparity`` in the unit of the official files, (p - 1) / 256
      pixels of the 2048 wide original. The field publishes errors on the stored scale: times
      65535 / 256, about 256, they are pixels.

    The authors say that it is "the original cityscapes disparity data", without further processing
    (https://github.com/lorenmt/mtan, issues 15 and 25). The divisor is derived, not confirmed by
    them: users report there 0..0.4922 for what is 0..32257 in the official files, and
    32257 / 65535 = 0.4922.

    Ids are the numbers in the file names, by their value: 9 comes before 10.

    Args:
        root: the folder of the data set.
        split: ``train`` or ``val``.
        tasks: the wanted tasks.
        num_classes: 7 or 19.
    """

    title: ClassVar[str] = "Cityscapes in the MTAN packing (npy, 7 or 19 classes)"
    layout: ClassVar[str] = (
        "train/ and val/ with image/, depth/ and label_7/, label_19/ or label/ of .npy files"
    )

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        num_classes: Literal[7, 19] = 7,
    ) -> None:
        self.num_classes = num_classes
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return any(_is_split(root / split) for split in cls.splits)

    def specs(self) -> list[TaskSpec]:
        classes = facts("cityscapes")["classes"]
        if self.num_classes == 7:
            classes = facts("cityscapes")["categories"]
        return [TaskSpec.semseg(classes), TaskSpec.disparity(MAX_DISPARITY)]

    def needs(self) -> dict[str, Path]:
        folder = self.root / self.split
        labels = folder / "label"
        if not labels.is_dir():
            labels = folder / f"label_{self.num_classes}"
        return {"semseg": labels, "disparity": folder / "depth"}

    def list_ids(self) -> list[str]:
        return list_numbered(self.root / self.split / "image")

    def read_image(self, sample_id: str) -> np.ndarray:
        return read_unit_image(self.root / self.split / "image" / f"{sample_id}.npy")

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self.needs()[task] / f"{sample_id}.npy"
        if not is_there(path):
            return None
        if task == "semseg":
            return read_npy_labels(path, self.num_classes)
        stored = read_npy(path, "disparity (H, W, 1) in 0..1", 3)
        if stored.shape[2] != 1:
            found = f"{stored.dtype} {stored.shape}"
            raise ValueError(f"{path}: expected disparity (H, W, 1) in 0..1, got {found}")
        if (stored > 1).any():
            expected = "the disparity code divided by 65535, in 0..1"
            raise ValueError(f"{path}: expected {expected}, got up to {stored.max():g}")
        code = stored[..., 0].astype(np.float64) * 65535
        return depth_target((code - 1) / 256, MAX_DISPARITY)


def _is_split(folder: Path) -> bool:
    """Whether a folder looks like a split of this packing."""
    if (folder / "normal").is_dir():  # NYUv2 in the packing of the same authors
        return False
    if not (folder / "image").is_dir() or not (folder / "depth").is_dir():
        return False
    return any((folder / name).is_dir() for name in LABEL_FOLDERS)
