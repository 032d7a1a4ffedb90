"""Taskonomy: photographs of 537 buildings, depth and normals rendered from their scans, and labels
of a network.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl._images import is_there, read_bytes, read_ids, read_image
from visionmtl.data.sets.base import PackedDataset, check_frame, facts, labels_from, unit_normals
from visionmtl.tasks.depth import Depth, DepthCodec
from visionmtl.types import Camera, Target, TaskSpec

FOLDERS = {"semseg": "segment_semantic", "depth": "depth_zbuffer", "normals": "normal"}
"""Task -> folder of its labels."""

SUBSETS = ("tiny", "medium", "full", "fullplus")
"""The published splits; each holds the one before."""

SPLITS_URL = "https://github.com/StanfordVL/taskonomy/tree/master/data#dataset-splits"

MAX_STORABLE_DEPTH = 128.0
"""Metres that 16 bits reach at 1 / 512 m."""


class _PointInfo(BaseModel):
    """The part of a view's description that is used."""

    field_of_view_rads: float = Field(gt=0, lt=math.pi)


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
        normals_frame: frame of the stored normals, see ``unit_normals``.

    Raises:
        ValueError: also an option out of range, no or a malformed split list, none of its buildings
            there.
    """

    packing: ClassVar[str] = "taskonomy"
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
        subset: str = "fullplus",
        max_depth: float = 16.0,
        normals_frame: str = "y_down",
    ) -> None:
        if subset not in SUBSETS:
            raise ValueError(f"subset: must be one of {', '.join(SUBSETS)}, got {subset!r}")
        if not isinstance(max_depth, int | float) or not 0 < max_depth <= MAX_STORABLE_DEPTH:
            raise ValueError(
                f"max_depth: must be above 0 and at most {MAX_STORABLE_DEPTH:g} metres, got {max_depth!r}"
            )
        check_frame(normals_frame)
        self.subset, self.max_depth, self.normals_frame = subset, max_depth, normals_frame
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / "rgb").is_dir() and any(
            (root / folder).is_dir() for folder in FOLDERS.values()
        )

    def specs(self) -> list[TaskSpec]:
        return [
            TaskSpec.semseg(facts("taskonomy")["classes"]),
            TaskSpec.depth(self.max_depth),
            TaskSpec.normals(),
        ]

    def needs(self) -> dict[str, Path]:
        return {task: self.root / folder for task, folder in FOLDERS.items()}

    def list_ids(self) -> list[str]:
        rgb, ending = self._folder("rgb"), "_domain_rgb.png"
        there = {name for name in os.listdir(rgb) if (rgb / name).is_dir()}
        path = self._split_list()
        listed = _buildings(path, self.split)
        if not there.intersection(listed):
            found = ", ".join(sorted(there)[:5]) or "nothing"
            raise ValueError(
                f"{path}: none of the {len(listed)} buildings of {self.split!r} is in {rgb}; it has {found}"
            )
        return sorted(
            f"{building}/{name.removesuffix(ending)}"
            for building in there.intersection(listed)
            for name in os.listdir(rgb / building)
            if name.endswith(ending) and not name.startswith(".")
        )

    def image_file(self, sample_id: str) -> Path:
        return self._folder("rgb") / f"{sample_id}_domain_rgb.png"

    def read_target(self, task: str, sample_id: str) -> Target | None:
        domain = "segmentsemantic" if task == "semseg" else FOLDERS[task]
        path = self._folder(FOLDERS[task]) / f"{sample_id}_domain_{domain}.png"
        if not is_there(path):
            return None
        if task == "semseg":
            return labels_from(
                read_ids(path), np.arange(-1, len(facts("taskonomy")["classes"])), path
            )
        if task == "depth":
            kind = Depth(self.max_depth)
            return DepthCodec(kind, scale=1 / 512, invalid_value=65535).read(path)
        return unit_normals(read_image(path) * np.float32(2 / 255) - 1, self.normals_frame)

    def camera(self, sample_id: str, height: int, width: int) -> Camera | None:
        path = self._folder("point_info") / f"{sample_id}_domain_point_info.json"
        if not is_there(path):
            return None
        angle = validated(_PointInfo, read_bytes(path), path).field_of_view_rads
        focal = width / 2 / math.tan(angle / 2)
        return Camera(focal, focal, width / 2, height / 2, width, height)

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        return folder / "taskonomy" if (folder / "taskonomy").is_dir() else folder

    def _split_list(self) -> Path:
        """The split list of the subset.

        Raises:
            ValueError: it is not there; says which are, and where to get it.
        """
        folders, name = (
            (self.root, self.root / "splits_taskonomy"),
            f"train_val_test_{self.subset}.csv",
        )
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        others = sorted(
            path.stem.split("_")[-1]
            for folder in folders
            for path in folder.glob("train_val_test_*.csv")
        )
        hint = (
            f"there is one for subset {', '.join(others)}"
            if others
            else f"splits_taskonomy.zip is at {SPLITS_URL}"
        )
        raise ValueError(
            f"{self.root}: no split list {name}, neither there nor in splits_taskonomy/; {hint}"
        )


def _buildings(path: Path, split: str) -> list[str]:
    """The buildings of a split: rows of ``id,train,val,test`` with a 1 in its column."""
    try:
        rows = list(
            csv.DictReader(read_bytes(path).decode("utf-8-sig").splitlines())
        )  # the published ones end in CR
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a split list: {error}") from error
    columns = list(rows[0]) if rows else []
    if not {"id", split} <= set(columns):
        raise ValueError(
            f"{path}: expected rows of id, train, val, test, got {', '.join(map(str, columns)) or 'none'}"
        )
    return [row["id"] for row in rows if row[split] == "1"]
