"""PASCAL-Context as the multi-task field uses it (archive PASCAL_MT): VOC2010 images with six kinds
of labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from visionmtl._images import is_there, read_image
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset, facts
from visionmtl.data.sets.ids import read_id_list
from visionmtl.data.sets.labels import Frame, all_valid, unit_normals
from visionmtl.data.sets.matlab import read_mat
from visionmtl.data.sets.voc import read_voc_boxes
from visionmtl.metrics.thinning import thin
from visionmtl.tasks.semseg import LabelCodec, SemSeg
from visionmtl.types import BoxTarget, DenseTarget, Target, TaskSpec

FOLDERS = {
    "semseg": "semseg",
    "human_parts": "human_parts",
    "saliency": "sal_distill",
    "edge": "pascal-context/trainval",
    "normals": "normals_distill",
    "detection": "Annotations",
}
"""Task -> folder of its labels."""

SUFFIXES = {
    "human_parts": ".mat",
    "saliency": ".png",
    "edge": ".mat",
    "normals": ".png",
    "detection": ".xml",
}
"""Task -> what the files of its labels end with."""


@DATASETS.register("pascal_context")
class PascalContext(PackedDataset):
    """``<root>/JPEGImages/<id>.jpg`` and a folder of labels per task, split by
    ``ImageSets/Context/{train,val}.txt``.

    - semseg, 21 classes: ``semseg/VOC12/<id>.png`` where that image has one, else
      ``semseg/pascal-context/<id>.png``; 255 is invalid.
    - human_parts, background and 6 parts: ``human_parts/<id>.mat`` of PASCAL-Part. An image on
      which no part of a person is marked is not annotated, as in the field's training and
      evaluation, so background is only seen there.
    - saliency: ``sal_distill/<id>.png``, the output of a network; salient above 0.5.
    - edge: the borders of the 459 classes of ``pascal-context/trainval/<id>.mat``, thinned to one
      pixel.
    - normals: ``normals_distill/<id>.png``, the output of a network trained on NYUv2, 2 x / 255 -
      1; valid only on classes that NYUv2 has too, which the file of edge tells.
    - detection, 20 classes: ``Annotations/<id>.xml`` of VOC2010, which the archive does not hold.

    Sources: Maninis et al., Attentive Single-Tasking of Multiple Tasks, CVPR 2019, with the loaders
        and evaluations of
    https://github.com/facebookresearch/astmt and
    https://github.com/SimonVandenhende/Multi-Task-Learning-PyTorch; Mottaghi et al.
    (PASCAL-Context) and Chen et al. (PASCAL-Part), both CVPR 2014.

    Args:
        root: the folder of the data set.
        split: ``train`` (4998 images) or ``val`` (5105).
        tasks: the wanted tasks; by default those whose folder is there.
        normals_frame: axes of the stored normals. No source states it. The
            default is that of ``nyuv2_atrc``, as the network learned from NYUv2. The rotation
            augmentation of the authors fits it, and also ``y_down`` and ``y_down_z_back``, but
            neither ``y_up`` nor ``z_up``.
        difficult: whether objects that VOC marks as difficult are among the boxes. VOC's own
            evaluation ignores them.

    Attributes:
        dropped_boxes: reason -> objects left out so far, each time that a sample is read.

    Raises:
        ValueError: also an id in the list of the split without image.
    """

    title: ClassVar[str] = "PASCAL-Context for multi-task learning (PASCAL_MT)"
    layout: ClassVar[str] = "JPEGImages/ and ImageSets/Context/"

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        *,
        normals_frame: Frame = "x_left",
        difficult: bool = False,
    ) -> None:
        self.normals_frame = normals_frame
        self.difficult = difficult
        self.dropped_boxes: Counter[str] = Counter()
        self._facts: dict[str, Any] = facts("pascal")
        super().__init__(root, split, tasks)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / "ImageSets" / "Context").is_dir() and (root / "JPEGImages").is_dir()

    def specs(self) -> list[TaskSpec]:
        classes = self._facts["classes"]
        return [
            TaskSpec.semseg(classes),
            TaskSpec.semseg(self._facts["part_classes"], name="human_parts"),
            TaskSpec.saliency(),
            TaskSpec.edge(),
            TaskSpec.normals(),
            TaskSpec.detection(classes[1:]),
        ]

    def needs(self) -> dict[str, Path]:
        found = {task: self.root / folder for task, folder in FOLDERS.items()}
        if found["normals"].exists():
            found["normals"] = found["edge"]  # tells where they are valid
        return found

    def list_ids(self) -> list[str]:
        path = self.root / "ImageSets" / "Context" / f"{self.split}.txt"
        return sorted(read_id_list(path, self.root / "JPEGImages", (".jpg",)))

    def image_path(self, sample_id: str) -> Path:
        return self.root / "JPEGImages" / f"{sample_id}.jpg"

    def read_target(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self._label_path(task, sample_id)
        if not is_there(path):
            return None
        if task == "detection":
            return self._boxes(path, size)
        if task == "semseg":
            return LabelCodec(SemSeg(self._facts["classes"])).read(path)
        if task == "human_parts":
            return _human_parts(path, self._facts["person"], self._facts["parts"])
        if task == "saliency":
            return all_valid(read_image(path)[..., 0] > 127)
        if task == "edge":
            return all_valid(_borders(_context_labels(path)))
        return self._normals(path, self._label_path("edge", sample_id))

    def _boxes(self, path: Path, size: tuple[int, int]) -> BoxTarget:
        target, difficult = read_voc_boxes(path, self._facts["classes"][1:], size, self.difficult)
        if difficult:
            self.dropped_boxes["difficult"] += difficult
        return target

    def _label_path(self, task: str, sample_id: str) -> Path:
        folder = self.root / FOLDERS[task]
        if task == "semseg":
            voc = folder / "VOC12" / f"{sample_id}.png"
            if is_there(voc):
                return voc
            return folder / "pascal-context" / f"{sample_id}.png"
        return folder / f"{sample_id}{SUFFIXES[task]}"

    def _normals(self, path: Path, context_path: Path) -> DenseTarget:
        vectors = read_image(path) * np.float32(2 / 255) - 1
        labels = _context_labels(context_path)
        if labels.shape != vectors.shape[:2]:
            found = f"{labels.shape[1]}x{labels.shape[0]}"
            expected = f"{vectors.shape[1]}x{vectors.shape[0]}"
            raise ValueError(f"{context_path}: the labels are {found}, the normals {expected}")
        vectors[~np.isin(labels, self._facts["normals_ids"])] = 0  # invalid
        return unit_normals(vectors, self.normals_frame)


def _context_labels(path: Path) -> np.ndarray:
    """Numbers (H, W) of the 459 classes of PASCAL-Context, 1..459, or 0."""
    labels = read_mat(path, "LabelMap")
    is_array = isinstance(labels, np.ndarray)
    if not is_array or labels.ndim != 2 or labels.dtype.kind not in "uif" or not labels.size:
        raise ValueError(f"{path}: LabelMap must be numbers (H, W)")
    if not ((labels >= 0) & (labels <= 65535) & (labels % 1 == 0)).all():  # False for nan
        raise ValueError(
            f"{path}: LabelMap must be whole numbers, got {labels.min():g} to {labels.max():g}"
        )
    numbers: np.ndarray = labels.astype(np.uint16)
    return numbers


def _human_parts(path: Path, person: int, parts: dict[str, int]) -> DenseTarget | None:
    """The marked parts of all persons, those later in the file over the earlier ones; None where
    there are none.

    ``anno`` is a struct with the array of structs ``objects``: class, class_ind, mask, parts, which
    is an array of structs part_name, mask (H, W), or empty.
    """
    value = None
    anno = read_mat(path, "anno")
    try:
        for name, mask in _marked(anno, person):
            if name not in parts:
                raise ValueError(f"person with a part {name!r}, expected {', '.join(parts)}")
            if value is None:
                value = np.zeros(mask.shape, np.uint8)
            value[mask] = parts[name]
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path}: not an annotation of PASCAL-Part: {error}") from error
    if value is None or not value.any():
        return None
    return all_valid(value)


def _marked(anno: Any, person: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask of the parts of all persons."""
    for entry in anno[0]["objects"]:
        if entry["class_ind"].item() == person:
            for part in entry["parts"]:
                yield part["part_name"], part["mask"] != 0


def _borders(labels: np.ndarray) -> np.ndarray:
    """Where the Laplacian of the numbers is not 0, on both sides of a border, thinned to one pixel:
    bool (H, W).
    """
    return thin(cv2.Laplacian(labels, cv2.CV_64F) != 0)
