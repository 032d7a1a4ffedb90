"""NYUv2 with 40 classes, depth, normals and edges as the authors of ATRC packed it, and as
MTL-PyTorch did before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from visionmtl._images import is_there, read_ids, read_image
from visionmtl.data.sets.base import (
    PackedDataset,
    check_frame,
    facts,
    labels_from,
    read_id_list,
    read_npy,
    unit_normals,
)
from visionmtl.data.sets.nyuv2 import MAX_DEPTH, in_order, read_depth_npy, read_normals_npy
from visionmtl.types import DenseTarget, Target, TaskSpec

FOLDERS = {"semseg": "segmentation", "depth": "depth", "normals": "normals", "edge": "edge"}
"""Task -> folder of its labels."""

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
        normals_frame: frame of the stored normals, see ``unit_normals``. No source states it. The
            default is that of the labels of Ladicky et al. and Wang et al., on which the networks
            of ASTMT's authors go back; compare the normals with the depth of your copy, as
            docs/datasets.md shows, before you rely on it.

    Raises:
        ValueError: also an unknown frame, a listed id without image.
    """

    packing: ClassVar[str] = "nyuv2_atrc"
    title: ClassVar[str] = "NYUv2 in the ATRC packing (png, 40 classes)"
    layout: ClassVar[str] = "images/, segmentation/ of .png, depth/ of .npy and gt_sets/"

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        normals_frame: str = "x_left",
    ) -> None:
        check_frame(normals_frame)
        self.normals_frame = normals_frame
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        has_mat = any(any((root / folder).glob("*.mat")) for folder in ("segmentation", "depth"))
        return (root / "gt_sets").is_dir() and (root / "images").is_dir() and not has_mat

    def specs(self) -> list[TaskSpec]:
        classes = facts("nyuv2")["classes40"]
        return [
            TaskSpec.semseg(classes),
            TaskSpec.depth(MAX_DEPTH),
            TaskSpec.normals(),
            TaskSpec.edge(0.011),
        ]

    def needs(self) -> dict[str, Path]:
        return {task: self.root / folder for task, folder in FOLDERS.items()}

    def list_ids(self) -> list[str]:
        path = self.root / "gt_sets" / f"{self.split}.txt"
        return in_order(read_id_list(path, self.root / "images", SUFFIXES["images"]))

    def image_file(self, sample_id: str) -> Path:
        return self._path("images", sample_id)

    def read_target(self, task: str, sample_id: str) -> Target | None:
        path = self._path(FOLDERS[task], sample_id)
        if not is_there(path):
            return None
        if task == "semseg":
            return labels_from(read_ids(path), np.arange(-1, 40), path)
        if task == "depth":
            return read_depth_npy(path)
        if task == "edge":
            return _read_edges(path)
        if path.suffix == ".npy":
            return read_normals_npy(path, self.normals_frame)
        return unit_normals(read_image(path) * np.float32(2 / 255) - 1, self.normals_frame)

    def _path(self, folder: str, sample_id: str) -> Path:
        """The file that is there; the last of those that could be, where none is."""
        candidates = [self.root / folder / f"{sample_id}{suffix}" for suffix in SUFFIXES[folder]]
        return next((path for path in candidates if is_there(path)), candidates[-1])


def _read_edges(path: Path) -> DenseTarget:
    """Edges from numbers 0..255, or 0..1 as in the arrays."""
    array = (
        read_ids(path)
        if path.suffix == ".png"
        else read_npy(path, "edges (H, W) or (H, W, 1)", ndim=(2, 3))
    )
    strength = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    if strength.ndim != 2 or not 0 <= low <= high <= 255:
        raise ValueError(
            f"{path}: expected edges (H, W) in 0..1 or 0..255, got {array.shape} in {low:g}..{high:g}"
        )
    edges = strength >= (0.5 if high <= 1 else 127.5)
    return DenseTarget(edges.astype(np.uint8), np.ones(edges.shape, bool))
