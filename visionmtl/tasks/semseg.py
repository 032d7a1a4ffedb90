"""Semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visionmtl._images import read_ids
from visionmtl.metrics.semseg import SemSegMetric
from visionmtl.tasks.base import DenseKind
from visionmtl.tasks.classes import ClassKind
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.drawing import palette
from visionmtl.tasks.drawing.text import with_legend
from visionmtl.tasks.report import DenseReport
from visionmtl.tasks.result import DenseResult
from visionmtl.types import KINDS, DenseTarget

MAX_CLASSES = 256
"""Class ids of targets are 8-bit."""


class LabelCodec(Codec):
    """Class ids. Files are grey or palette PNGs of up to 8 bits, or 16-bit grey ones.

    Palette indices are the ids, whatever their colours.

    Args:
        kind: of the task.
        ignore_value: the stored number of invalid pixels.

    Raises:
        ValueError: an ``ignore_value`` that is also the id of a class.
    """

    def __init__(self, kind: SemSeg, *, ignore_value: int = 255) -> None:
        super().__init__(kind)
        if 0 <= ignore_value < len(kind.classes):
            name = kind.classes[ignore_value]
            raise ValueError(f"ignore_value {ignore_value} is also the id of class {name!r}")
        self.ignore_value = ignore_value

    @classmethod
    def for_labels(cls, kind: SemSeg) -> Self:
        if len(kind.classes) <= 255:
            return cls(kind, ignore_value=255)
        return cls(kind, ignore_value=65535)

    def encode(self, target: DenseTarget) -> np.ndarray:
        highest = max(self.ignore_value, len(self.kind.classes) - 1)
        codes: np.ndarray = target.value.astype(np.min_scalar_type(highest))
        if not target.valid.all():
            assert self.ignore_value >= 0, "no code for invalid pixels"
            codes[~target.valid] = self.ignore_value
        return codes

    def decode(self, codes: np.ndarray, source: str = "codes") -> DenseTarget:
        num_classes = len(self.kind.classes)
        valid = codes != self.ignore_value
        ids = np.where(valid, codes, 0)
        if ids.max() >= num_classes:
            found = ", ".join(map(str, np.unique(ids[ids >= num_classes])[:10]))
            expected = f"0..{num_classes - 1} or {self.ignore_value} (ignored)"
            raise ValueError(f"{source}: class ids {found}, expected {expected}")
        return DenseTarget(ids.astype(np.uint8), valid)

    def read(self, path: Path) -> DenseTarget:
        return self.decode(read_ids(path), str(path))


class SemSegReport(DenseReport):
    """Pixels per class."""

    num_bins = 0

    def value_fault(self, values: np.ndarray) -> str:
        highest = values.max(initial=0)
        last = self.spec.num_classes - 1
        if highest <= last:
            return ""
        return f"class id {highest} is not in 0..{last}"

    def bins(self, values: np.ndarray) -> np.ndarray:
        return values

    def range(self) -> str:
        return f"{np.count_nonzero(self.counts)} of {len(self.counts)} classes"


class SemSegResult(DenseResult):
    """Class ids uint8 (H, W). Written as an indexed PNG: ids as indices, with a palette."""

    @property
    def class_ids(self) -> np.ndarray:
        """uint8 (H, W), positions in ``classes``."""
        return self.value

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        names: tuple[str, ...] = self.kind.classes
        return names

    def save(self, folder: Path, stem: str, image: np.ndarray, name: str = "") -> None:
        indexed = Image.fromarray(self.class_ids)
        indexed.putpalette(palette(len(self.classes)).tobytes())
        indexed.save(folder / f"{stem}.png")


@KINDS.register("semseg")
@dataclass(frozen=True)
class SemSeg(ClassKind, DenseKind):
    """Semantic segmentation: one of ``classes`` per pixel, their position is the class id.

    Raises:
        ValueError: missing, repeated or over 256 classes.
    """

    head: ClassVar[str] = "semseg"
    loss: ClassVar[str] = "cross_entropy"
    metric = SemSegMetric
    codec = LabelCodec
    result = SemSegResult
    report = SemSegReport
    dtype = np.uint8
    channels = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(
                f"at most {MAX_CLASSES} classes, ids are 8-bit; got {len(self.classes)}"
            )

    def make_metric(self) -> SemSegMetric:
        return SemSegMetric(self.classes)

    def finish(self, output: Tensor, resampled: bool) -> Tensor:
        return output.argmax(1, keepdim=True).to(torch.uint8)

    def draw(
        self, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_semseg(target.value, target.valid, image, self.classes)


def draw_semseg(
    class_ids: np.ndarray,
    valid: np.ndarray | None,
    image: np.ndarray | None,
    classes: Sequence[str],
    alpha: float = 0.65,
) -> np.ndarray:
    """Class colours over the image, with a legend of the largest classes present.

    Args:
        class_ids: integers (H, W).
        valid: bool (H, W), or None where every pixel counts. Invalid pixels are black, blended as
            the classes are.
        image: uint8 (H, W, 3) underneath; None gives the plain colours.
        classes: class names by id.
        alpha: opacity of the colours, 0..1.
    """
    if valid is None:
        valid = np.ones(class_ids.shape, bool)
    black = np.zeros((MAX_CLASSES - len(classes), 3), np.uint8)
    colours = np.vstack([palette(len(classes)), black])
    picture = colours[np.where(valid, class_ids, MAX_CLASSES - 1)]
    if image is not None:
        picture = cv2.addWeighted(picture, alpha, image, 1 - alpha, 0)
    counts = np.bincount(class_ids[valid], minlength=len(classes))[: len(classes)]
    by_size = np.argsort(-counts, kind="stable").tolist()
    present = by_size[: np.count_nonzero(counts)]
    return with_legend(picture, [(classes[k], colours[k]) for k in present])
