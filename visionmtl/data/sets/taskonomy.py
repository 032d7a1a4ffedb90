"""Taskonomy: photographs of 537 buildings, depth and normals rendered from their scans, and labels
of a network.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl._images import is_there, read_bytes, read_ids, read_image
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.labels import Frame, decode_normals, labels_from
from visionmtl.tasks.depth import Depth, DepthCodec
from visionmtl.types import Camera, Target, TaskSpec

FOLDERS = {"semseg": "segment_semantic", "depth": "depth_zbuffer", "normals": "normal"}
"""Task -> folder of its labels."""

SplitSize = Literal["tiny", "medium", "full", "fullplus"]
"""The published splits; each holds the one before."""

SPLITS_URL = "https://github.com/StanfordVL/taskonomy/tree/master/data#dataset-splits"

StorableDepth = Annotated[float, Field(gt=0, le=128)]
"""Metres that 16 bits reach at 1 / 512 m."""


class _PointInfo(BaseModel):
    """The part of a view's description that is used."""

    field_of_view_rads: float = Field(gt=0, lt=math.pi)


@DATASETS.register("taskonomy")
class Taskonomy(PackedDataset):
    """``<root>/<folder>/<building>/<id>_domain_<folder>.png``, id ``point_<p>_view_<v>``; our ids:
    ``<building>/<id>``.

    The download tool of Omnidata puts one more folder between,
    ``<root>/<folder>/taskonomy/<building>``: read too.

    - semseg, 17 classes of COCO and background: ``segment_semantic``, output of a network, files
      named ``..._domain_segmentsemantic.png``; 0 means uncertain and is invalid, 1..17 are the
      classes.
    - depth: ``depth_zbuffer``, planar, 1 / 512 m; 65535 is invalid. ``depth_euclidean`` is the
      length of the ray and not used.
    - normals: ``normal``, 2 x / 255 - 1, x right, y down, z forward; grey, of length 0, is invalid.
      The owners' text says that blue points to the camera; their own conversion and what users
      measure say forward, see https://github.com/EPFL-VILAB/omnidata, issue 13 and
      transform_normal_cam; https://github.com/maturk/dn-splatter, issue 9.

    The pictures are square. The camera is that of ``point_info``, where it is there, its principal
    point the centre.

    The split goes by building, by ``train_val_test_<subset>.csv`` in the root or in
    ``splits_taskonomy/``. Buildings that are not there are left out: the whole set has 11 TB. Soft
    values, such as ``edge_texture`` and the keypoints, are no task. Source:
    https://github.com/StanfordVL/taskonomy (data/README.md).

    Args:
        root: the folder of the data set.
        split: ``train``, ``val`` or ``test``.
        tasks: the wanted tasks.
        subset: which published split, ``tiny``, ``medium``, ``full`` or ``fullplus``.
        max_depth: metres; what lies beyond is invalid. 16 m is what the field uses.
        normals_frame: axes of the stored normals.

    Raises:
        ValueError: also no or a malformed split list, none of its buildings there.
    """

    title: ClassVar[str] = "Taskonomy"
    layout: ClassVar[str] = (
        "rgb/ and segment_semantic/, depth_zbuffer/ or normal/ with a folder per building"
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        subset: SplitSize = "fullplus",
        max_depth: StorableDepth = 16.0,
        normals_frame: Frame = "y_down",
    ) -> None:
        self.subset = subset
        self.max_depth = max_depth
        self.normals_frame = normals_frame
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        has_labels = any((root / folder).is_dir() for folder in FOLDERS.values())
        return has_labels and (root / "rgb").is_dir()

    def specs(self) -> list[TaskSpec]:
        return [
            TaskSpec.semseg(facts("taskonomy")["classes"]),
            TaskSpec.depth(self.max_depth),
            TaskSpec.normals(),
        ]

    def needs(self) -> dict[str, Path]:
        return {task: self.root / folder for task, folder in FOLDERS.items()}

    def list_ids(self) -> list[str]:
        rgb = self._folder("rgb")
        there = {name for name in os.listdir(rgb) if (rgb / name).is_dir()}
        path = self._split_list()
        listed = _buildings(path, self.split)
        if not there.intersection(listed):
            found = ", ".join(sorted(there)[:5]) or "nothing"
            buildings = f"the {len(listed)} buildings of {self.split!r}"
            raise ValueError(f"{path}: none of {buildings} is in {rgb}; it has {found}")
        ids: list[str] = []
        for building in there.intersection(listed):
            images = (rgb / building).glob("[!.]*_domain_rgb.png")
            ids += [image.relative_to(rgb).as_posix() for image in images]
        return sorted(path.removesuffix("_domain_rgb.png") for path in ids)

    def image_path(self, sample_id: str) -> Path:
        return self._folder("rgb") / f"{sample_id}_domain_rgb.png"

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        domain = FOLDERS[task]
        if task == "semseg":
            domain = "segmentsemantic"
        path = self._folder(FOLDERS[task]) / f"{sample_id}_domain_{domain}.png"
        if not is_there(path):
            return None
        if task == "semseg":
            table = np.arange(-1, len(facts("taskonomy")["classes"]))
            return labels_from(read_ids(path), table, path)
        if task == "depth":
            kind = Depth(self.max_depth)
            return DepthCodec(kind, scale=1 / 512, invalid_value=65535).read(path)
        return decode_normals(read_image(path), self.normals_frame)

    def camera(self, sample_id: str, height: int, width: int) -> Camera | None:
        path = self._folder("point_info") / f"{sample_id}_domain_point_info.json"
        if not is_there(path):
            return None
        angle = validated(_PointInfo, read_bytes(path), path).field_of_view_rads
        focal = width / 2 / math.tan(angle / 2)
        return Camera(focal, focal, width / 2, height / 2, width, height)

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        if (folder / "taskonomy").is_dir():
            return folder / "taskonomy"
        return folder

    def _split_list(self) -> Path:
        """The split list of the subset.

        Raises:
            ValueError: it is not there; says which are, and where to get it.
        """
        name = f"train_val_test_{self.subset}.csv"
        others: list[str] = []
        for folder in (self.root, self.root / "splits_taskonomy"):
            if (folder / name).is_file():
                return folder / name
            others += [path.stem.split("_")[-1] for path in folder.glob("train_val_test_*.csv")]
        hint = f"splits_taskonomy.zip is at {SPLITS_URL}"
        if others:
            hint = f"there is one for subset {', '.join(sorted(others))}"
        raise ValueError(
            f"{self.root}: no split list {name}, neither there nor in splits_taskonomy/; {hint}"
        )


def _buildings(path: Path, split: str) -> list[str]:
    """The buildings of a split: rows of ``id,train,val,test`` with a 1 in its column."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()  # the published ones end in CR
        rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a split list: {error}") from error
    columns: list[str] = []
    for row in rows[:1]:
        columns += row
    if not {"id", split} <= set(columns):
        found = ", ".join(map(str, columns)) or "none"
        raise ValueError(f"{path}: expected rows of id, train, val, test, got {found}")
    return [row["id"] for row in rows if row[split] == "1"]
