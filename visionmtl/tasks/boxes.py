"""What kinds with boxes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionmtl.tasks.base import Kind, View
from visionmtl.tasks.codec import Codec
from visionmtl.tasks.report import TaskReport
from visionmtl.types import BoxTarget, TaskSpec

MIN_VISIBLE = 0.25
"""A box is dropped when less than this share of its area is left in the picture."""

MIN_BOX_SIDE = 2.0
"""A box is dropped when a side is shorter than this, in pixels of the output."""


class BoxCodec(Codec):
    """Rows x1 y1 x2 y2 label, float32. The file is one for a whole split, COCO instances: see
    ``visionmtl.tasks.coco`` and ``visionmtl.data.coco``.
    """

    suffixes = (".json",)

    def encode(self, target: BoxTarget) -> np.ndarray:
        return np.concatenate([target.boxes, target.labels[:, None].astype(np.float32)], axis=1)

    def decode(self, codes: np.ndarray, source: str = "codes") -> BoxTarget:
        return BoxTarget(codes[:, :4].copy(), codes[:, 4].astype(np.int64))

    def unpack(self, codes: np.ndarray, size: tuple[int, int]) -> BoxTarget:
        return self.decode(codes.reshape(-1, 5))


class BoxReport(TaskReport):
    """Boxes per class; ``low`` and ``high`` of the longer side in pixels.

    Attributes:
        empty: images without a box.
    """

    unit = "boxes"

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self.empty = 0

    def fault(self, target: BoxTarget, size: tuple[int, int]) -> str:
        boxes = target.boxes
        labels = target.labels
        types_fit = boxes.dtype == np.float32 and labels.dtype == np.int64
        if not types_fit or boxes.shape != (labels.size, 4) or labels.ndim != 1:
            return f"boxes {boxes.dtype} {boxes.shape} and labels {labels.dtype} {labels.shape}"
        last = self.spec.num_classes - 1
        if len(labels) and not 0 <= labels.min() <= labels.max() <= last:
            return f"labels {labels.min()}..{labels.max()} are not in 0..{last}"
        limit = (size[1], size[0])
        corners = boxes.reshape(-1, 2, 2)
        inside = (corners >= 0) & (corners <= limit)
        if not (inside.all() and (corners[:, 0] < corners[:, 1]).all()):
            return f"boxes without area or not in 0..{limit}"
        return ""

    def update(self, target: BoxTarget) -> None:
        self.annotated += 1
        self.empty += len(target.boxes) == 0
        self.counts += np.bincount(target.labels, minlength=len(self.counts))
        self.widen((target.boxes[:, 2:] - target.boxes[:, :2]).max(axis=1))

    def contents(self) -> str:
        number = int(self.counts.sum())
        sizes = "no boxes"
        if number:
            sizes = f"{number} boxes of {self.low:.0f} .. {self.high:.0f} px"
        return f"{sizes}, {self.empty} images without"


@dataclass(frozen=True)
class BoxKind(Kind):
    """A kind with boxes."""

    target = BoxTarget
    codec: ClassVar[type[Codec]] = BoxCodec
    report: ClassVar[type[TaskReport]] = BoxReport

    def followed(
        self, target: BoxTarget, view: View, index: np.ndarray, inside: np.ndarray
    ) -> BoxTarget:
        """The hulls of the moved corners, clipped; unusable and hardly visible boxes are left
        out.
        """
        low = target.boxes[:, :2]
        high = target.boxes[:, 2:]
        usable = np.isfinite(target.boxes).all(axis=1) & (high > low).all(axis=1)
        corners = target.boxes[usable].astype(np.float64)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        corners = corners @ view.matrix[:2, :2].T + view.matrix[:2, 2]
        hull = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        height, width = view.size
        boxes = hull.clip(0, [width, height, width, height])
        sides = boxes[:, 2:] - boxes[:, :2]
        whole = hull[:, 2:] - hull[:, :2]
        visible = sides.prod(axis=1) >= MIN_VISIBLE * whole.prod(axis=1)
        keep = visible & (sides.min(axis=1) >= MIN_BOX_SIDE)
        return BoxTarget(boxes[keep].astype(np.float32), target.labels[usable][keep], target.known)
