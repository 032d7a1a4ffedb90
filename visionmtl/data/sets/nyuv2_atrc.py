"""NYUv2 with 40 classes, depth, normals and edges as the authors of ATRC packed it, and as
MTL-PyTorch did before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from visionmtl._images import is_there, read_ids, read_image
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.sets.ids import in_order, read_id_list
from visionmtl.data.sets.labels import Frame, all_valid, decode_normals, labels_from
from visionmtl.data.sets.npy import read_npy, read_npy_depth, read_npy_normals
from visionmtl.data.sets.nyuv2 import MAX_DEPTH, nyuv2_tasks
from visionmtl.types import DenseTarget, Target, TaskSpec

FOLDERS = {"semseg": "segmentation", "depth": "depth", "normals": "normals", "edge": "edge"}
"""Task -> folder of its labels."""

EDGE_TOLERANCE = 0.011
"""Fraction of the image's diagonal, as the field evaluates edges of NYUv2."""

SUFFIXES = {
    "images": (".png", ".jpg"),
    "segmentation": (".png",),
    "depth": (".npy",),
    "normals": (".png", ".npy"),
    "edge": (".png", ".npy"),
}
"""Folder -> what its files end with: in the archive of ATRC, and in the older one of MTL-PyTorch
where it differs.
"""


@DATASETS.register("nyuv2_atrc")
class NYUv2ATRC(PackedDataset):
    """``<root>/<folder>/<id>.*``, split by ``gt_sets/{train,val}.txt``: 795 and 654 ids; ``val`` is
    the test set.

    - images: png, or jpg in the older packing.
    - semseg, 40 classes: ``segmentation/<id>.png``; 0 is void, 1..40 the classes.
    - depth: ``depth/<id>.npy``, metres; 0 is invalid.
    - normals: ``normals/<id>.png``, 2 x / 255 - 1, or npy of -1..1; vectors far from unit length
      are invalid.
    - edge: ``edge/<id>.png``, 0..255, or npy of 0..1; an edge from the middle of the range on.

    The archive that the authors of ASTMT made first, with labels in .mat and normals in .jpg, is
    refused.

    Sources: https://github.com/brdav/atrc and
        https://github.com/SimonVandenhende/Multi-Task-Learning-PyTorch.

    Args:
        root: the folder of the data set, ``NYUDv2`` or ``NYUD_MT``.
        split: ``train`` or ``val``.
        tasks: the wanted tasks.
        normals_frame: axes of the stored normals. No source states it. The
            default is that of the labels of Ladicky et al. and Wang et al., on which the networks
            of ASTMT's authors go back; compare the normals with the depth of your copy, as
            docs/datasets.md shows, before you rely on it.

    Raises:
        ValueError: also a listed id without image.
    """

    title: ClassVar[str] = "NYUv2 in the ATRC packing (png, 40 classes)"
    layout: ClassVar[str] = "images/, segmentation/ of .png, depth/ of .npy and gt_sets/"

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        normals_frame: Frame = "x_left",
    ) -> None:
        self.normals_frame = normals_frame
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        has_folders = (root / "gt_sets").is_dir() and (root / "images").is_dir()
        return has_folders and not (_has_mat(root / "segmentation") or _has_mat(root / "depth"))

    def specs(self) -> list[TaskSpec]:
        return [*nyuv2_tasks(40), TaskSpec.edge(EDGE_TOLERANCE)]

    def needs(self) -> dict[str, Path]:
        return {task: self.root / folder for task, folder in FOLDERS.items()}

    def list_ids(self) -> list[str]:
        path = self.root / "gt_sets" / f"{self.split}.txt"
        return in_order(read_id_list(path, self.root / "images", SUFFIXES["images"]))

    def image_path(self, sample_id: str) -> Path:
        return self._path("images", sample_id)

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self._path(FOLDERS[task], sample_id)
        if not is_there(path):
            return None
        if task == "semseg":
            return labels_from(read_ids(path), np.arange(-1, 40), path)
        if task == "depth":
            return read_npy_depth(path, MAX_DEPTH)
        if task == "edge":
            return _read_edges(path)
        if path.suffix == ".npy":
            return read_npy_normals(path, self.normals_frame)
        return decode_normals(read_image(path), self.normals_frame)

    def _path(self, folder: str, sample_id: str) -> Path:
        """The file that is there; the last of those that could be, where none is."""
        for suffix in SUFFIXES[folder]:
            path = self.root / folder / f"{sample_id}{suffix}"
            if is_there(path):
                break
        return path


def _has_mat(folder: Path) -> bool:
    return any(folder.glob("*.mat"))


def _read_edges(path: Path) -> DenseTarget:
    """Edges from numbers 0..255, or 0..1 as in the arrays."""
    strength: np.ndarray
    if path.suffix == ".png":
        strength = read_ids(path)
    else:
        strength = read_npy(path, "edges (H, W) or (H, W, 1)", 2, 3)
    shape = strength.shape
    if shape[2:] == (1,):
        strength = strength[..., 0]
    low = float(strength.min(initial=0))
    high = float(strength.max(initial=0))
    if strength.ndim != 2 or not 0 <= low <= high <= 255:
        found = f"{shape} in {low:g}..{high:g}"
        raise ValueError(f"{path}: expected edges (H, W) in 0..1 or 0..255, got {found}")
    middle = 127.5
    if high <= 1:
        middle = 0.5
    return all_valid(strength >= middle)
