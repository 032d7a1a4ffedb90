"""NYUv2 as its authors publish it: one MATLAB file with 1449 labelled images of 480 x 640."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from visionmtl.data.base import DATASETS
from visionmtl.data.derive import normals_from_depth
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.labels import depth_target, labels_from
from visionmtl.data.sets.nyuv2 import MAX_DEPTH, nyuv2_tasks
from visionmtl.types import Camera, DenseTarget, Target, TaskSpec

FILE = "nyu_depth_v2_labeled.mat"

SIZE = (480, 640)
"""Height and width of the images, to which ``CAMERA`` and ``MEASURED`` belong."""

CAMERA = (
    518.85790117450188,
    519.46961112127485,
    325.58244941119034 - 0.5,
    253.73616633400465 - 0.5,
)
"""fx, fy, cx, cy of the colour camera, in pixels. The toolbox counts them from 1
(``camera_params.m``, ``rgb_plane2rgb_world.m``), so that the centre of the first pixel lies at 1
there, and at 0.5 here."""

MEASURED = (44, 471, 40, 601)
"""First row, end, first column, end of what the depth sensor can see: ``get_projection_mask.m`` of
the toolbox.
"""


@DATASETS.register("nyuv2_official")
class NYUv2Official(PackedDataset):
    """``<root>/nyu_depth_v2_labeled.mat``, a MATLAB 7.3 file (HDF5), split by the authors'
    ``splits.mat``.

    - images: uint8, with a white frame of about 7 pixels that the removal of the lens distortion
      left.
    - semseg, 40 or 13 classes: ``labels``, 0..894; 0, which includes the white frame, is invalid.
    - depth: ``depths``, in metres, where the authors filled the holes by colour; invalid outside
      ``MEASURED``, where they filled without any measurement. Or ``rawDepths``, where 0 and what
      was clipped at 10 m is invalid.
    - normals: computed from ``rawDepths``, so that only measured depth counts.

    Ids are the positions in the file, 0001..1449. Each process opens the file for itself, at its
    first sample.

    Source: Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012,
        and
    https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html.

    Args:
        root: the folder of the file.
        split: ``train`` (795 images) or ``test`` (654).
        tasks: the wanted tasks.
        num_classes: 40 (Gupta et al., CVPR 2013) or 13 (Couprie et al., ICLR 2013).
        depth: ``filled`` or ``raw``.

    Raises:
        ValueError: also a broken file, no h5py.
    """

    title: ClassVar[str] = "NYUv2 as published (one .mat file)"
    layout: ClassVar[str] = f"the file {FILE}"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        num_classes: Literal[13, 40] = 40,
        depth: Literal["filled", "raw"] = "filled",
    ) -> None:
        self.num_classes = num_classes
        self.depth = depth
        self._file: Any = None
        self._process = 0  # that opened the file
        super().__init__(root, split, tasks)
        self.read_image(self.sample_id(0))  # a broken file is one error, and not one per sample
        self._table = _class_table(num_classes)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / FILE).is_file()

    def specs(self) -> list[TaskSpec]:
        return nyuv2_tasks(self.num_classes)

    def list_ids(self) -> list[str]:
        return [f"{position:04d}" for position in sorted(facts("nyuv2")[self.split])]

    def read_image(self, sample_id: str) -> np.ndarray:
        image = np.ascontiguousarray(self._read("images", sample_id, 3).transpose(2, 1, 0))
        if image.dtype != np.uint8 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}"
            raise ValueError(
                f"{self.root / FILE}: image {sample_id} is {found}, expected uint8 (H, W, 3)"
            )
        return image

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        if task == "semseg":
            numbers = self._read("labels", sample_id, 2).T
            return labels_from(numbers, self._table, f"{self.root / FILE}: {sample_id}")
        if task == "depth" and self.depth == "filled":
            return self._filled(sample_id)
        depth = self._raw(sample_id)
        if task == "depth":
            return depth
        height, width = depth.valid.shape
        return normals_from_depth(depth.value, depth.valid, self.camera(sample_id, height, width))

    def camera(self, sample_id: str, height: int, width: int) -> Camera:
        sy = height / SIZE[0]
        sx = width / SIZE[1]
        fx, fy, cx, cy = CAMERA
        return Camera(fx * sx, fy * sy, cx * sx, cy * sy, width, height)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": 0}

    def _raw(self, sample_id: str) -> DenseTarget:
        metres = self._read("rawDepths", sample_id, 2).T
        return depth_target(np.where(metres < MAX_DEPTH, metres, 0), MAX_DEPTH)

    def _filled(self, sample_id: str) -> DenseTarget:
        metres = self._read("depths", sample_id, 2).T
        sy = metres.shape[0] / SIZE[0]
        sx = metres.shape[1] / SIZE[1]
        top, bottom, left, right = MEASURED
        rows = slice(round(top * sy), round(bottom * sy))
        columns = slice(round(left * sx), round(right * sx))
        known = np.zeros_like(metres)
        known[rows, columns] = metres[rows, columns]
        return depth_target(known, MAX_DEPTH)

    def _read(self, name: str, sample_id: str, ndim: int) -> np.ndarray:
        """One entry of an array of the file; MATLAB's order of axes is reversed in it: (W, H) or
        (3, W, H).
        """
        path = self.root / FILE
        try:
            if self._process != os.getpid():
                self._file = _h5py(path).File(path, "r")
                self._process = os.getpid()
            entry = self._file[name][int(sample_id) - 1]
        except (OSError, KeyError, IndexError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path}: cannot read {name!r} of image {sample_id}: {reason}"
            ) from error
        if not isinstance(entry, np.ndarray) or entry.ndim != ndim:
            raise ValueError(
                f"{path}: {name!r} of image {sample_id} is not an array of {ndim} dimensions"
            )
        return entry


def _class_table(num_classes: int) -> np.ndarray:
    """Stored label -> class id, -1 for "no label"."""
    stored = facts("nyuv2")
    table = np.array([0, *stored["map894"]])
    if num_classes == 13:
        table = np.array([0, *stored["map40"]])[table]
    return table - 1


def _h5py(path: Path) -> Any:
    try:
        import h5py  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ValueError(f"{path}: needs h5py: pip install 'visionmtl[nyuv2]'") from error
    return h5py
