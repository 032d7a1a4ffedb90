"""Cityscapes as its owners publish it: 2048 x 1024 street scenes with classes, instances and stereo
disparity.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from visionmtl._files import validated
from visionmtl._images import is_there, read_bytes, read_ids, read_numbers
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.labels import labels_from
from visionmtl.tasks.disparity import Disparity
from visionmtl.tasks.range import RangeCodec
from visionmtl.types import BoxTarget, Camera, Target, TaskSpec

MAX_DISPARITY = 128.0
"""Pixels of the 2048 wide original; the official files go to 126, code 32257."""

SIZE = (2048, 1024)
"""Width and height of the original images, which the calibration files speak of."""


FILES = {
    "semseg": ("gtFine", "_labelIds.png"),
    "disparity": ("disparity", ".png"),
    "detection": ("gtFine", "_instanceIds.png"),
}
"""Task -> folder of its labels, and what their names end with."""


class _Intrinsic(BaseModel):
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    u0: float
    v0: float


class _Calibration(BaseModel):
    """The part of a camera file that is used."""

    intrinsic: _Intrinsic


@DATASETS.register("cityscapes")
class Cityscapes(PackedDataset):
    """``<root>/<kind>/{train,val}/<city>/<id>_<kind>...png``, 2975 and 500 images; the ids are
    ``<city>/<id>``.

    - semseg, 19 classes: ``gtFine``, ``labelIds``; the other 15 ids are invalid.
    - disparity: ``disparity``, 16 bits, (p - 1) / 256 pixels of the 2048 wide original; 0 is
      invalid, and so is 1, which means infinitely far. The unit stays where images are resized.
    - detection, 8 classes: the boxes around the instances of ``gtFine``, ``instanceIds``, 1000
      times the class id plus a number. Groups whose members the annotators could not tell apart
      (below 1000), and caravans and trailers, which are none of the 19 classes, get no box.

    The camera is that of ``camera/`` where it is there; its principal point is taken to count from
    the centre of the first pixel. ``test`` is no split: its labels are not public, the files are
    dummies.

    Source: https://github.com/mcordts/cityscapesScripts (README, helpers/labels.py,
        preparation/json2instanceImg.py).
    """

    title: ClassVar[str] = "Cityscapes"
    layout: ClassVar[str] = "leftImg8bit/ and gtFine/ with train/ and val/"

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()

    def specs(self) -> list[TaskSpec]:
        known = facts("cityscapes")
        return [
            TaskSpec.semseg(known["classes"]),
            TaskSpec.disparity(MAX_DISPARITY),
            TaskSpec.detection(known["things"]),
        ]

    def needs(self) -> dict[str, Path]:
        return {task: self.root / kind / self.split for task, (kind, _) in FILES.items()}

    def list_ids(self) -> list[str]:
        folder = self.root / "leftImg8bit" / self.split
        paths = [path.relative_to(folder) for path in folder.glob("*/[!.]*_leftImg8bit.png")]
        return sorted(path.as_posix().removesuffix("_leftImg8bit.png") for path in paths)

    def image_path(self, sample_id: str) -> Path:
        return self._path("leftImg8bit", sample_id)

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        kind, ending = FILES[task]
        path = self._path(kind, sample_id, ending)
        if not is_there(path):
            return None
        if task == "disparity":
            codes = read_numbers(path).astype(np.int32) - 1  # 0 is no measurement
            return RangeCodec(Disparity(MAX_DISPARITY), scale=1 / 256).decode(codes)
        ids = read_ids(path)
        if task == "semseg":
            return labels_from(ids, np.array(facts("cityscapes")["train_ids"]), path)
        if ids.shape != size[::-1]:
            found = f"{ids.shape[1]}x{ids.shape[0]}"
            raise ValueError(f"{path}: the instances are {found}, the image is {size[0]}x{size[1]}")
        return _boxes(ids, facts("cityscapes")["thing_ids"], path)

    def camera(self, sample_id: str, height: int, width: int) -> Camera | None:
        path = self._path("camera", sample_id, ".json")
        if not is_there(path):
            return None
        if abs(width * SIZE[1] - height * SIZE[0]) > SIZE[0]:
            image = f"the image of {width}x{height} is no resized copy"
            raise ValueError(f"{path}: is for {SIZE[0]}x{SIZE[1]}, {image}")
        found = validated(_Calibration, read_bytes(path), path).intrinsic
        sx = width / SIZE[0]
        sy = height / SIZE[1]
        cx = (found.u0 + 0.5) * sx
        cy = (found.v0 + 0.5) * sy
        return Camera(found.fx * sx, found.fy * sy, cx, cy, width, height)

    def _path(self, kind: str, sample_id: str, ending: str = ".png") -> Path:
        return self.root / kind / self.split / f"{sample_id}_{kind}{ending}"


def _boxes(ids: np.ndarray, classes: list[int], path: Path) -> BoxTarget:
    """The boxes around the instances of ``classes``, in the order of their numbers.

    Args:
        ids: (H, W), 1000 * class + number where a pixel belongs to an instance, less than 1000
            elsewhere.
        classes: the ids whose position becomes the label.
        path: of the file, for the message.

    Raises:
        ValueError: instances of classes that have none in Cityscapes.
    """
    y, x = np.nonzero(ids >= 1000)
    order = np.argsort(ids[y, x], kind="stable")
    y = y[order]
    x = x[order]
    owner = ids[y, x]
    if len(owner) and not (classes[0] <= owner[0] // 1000 and owner[-1] // 1000 <= classes[-1]):
        raise ValueError(
            f"{path}: instances {owner[0]} to {owner[-1]} are none of Cityscapes, 24000 to 33999"
        )
    starts = np.flatnonzero(np.diff(owner, prepend=0))
    if not len(starts):
        return BoxTarget(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    left = np.minimum.reduceat(x, starts)
    top = np.minimum.reduceat(y, starts)
    right = np.maximum.reduceat(x, starts) + 1
    bottom = np.maximum.reduceat(y, starts) + 1
    corners = np.stack([left, top, right, bottom], axis=1)
    found = owner[starts] // 1000
    kept = np.isin(found, classes)  # without caravans and trailers
    labels = np.searchsorted(classes, found[kept])
    return BoxTarget(corners[kept].astype(np.float32), labels.astype(np.int64))
