"""Detection: COCO average precision and recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from visionmtl.metrics.base import TaskMetric
from visionmtl.types import BoxTargets, Detections

_KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_100")


class DetectionMetric(TaskMetric):
    """COCO's box AP and AR in percent, with at most 100 boxes per image.

    See https://cocodataset.org/#detection-eval. ``map`` is the mean over classes and IoU thresholds
    0.50, 0.55 .. 0.95; ``map_50`` and ``map_75`` use one threshold; ``map_small``, ``map_medium``
    and ``map_large`` take objects below 32^2, up to 96^2 and above 96^2 pixels; ``per_class`` is
    ``map`` by class name. A value without any true box is nan and enters no mean. An image that is
    annotated with no boxes counts (all its detections are wrong), one that is not annotated does
    not, and neither do detections of classes that its annotation does not speak of.

    Args:
        classes: class names, their position is the class id.
    """

    headline: ClassVar[str] = "map"
    score_key: ClassVar[str] = "map"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = dict.fromkeys(_KEYS, True)
    delta_m_keys: ClassVar[tuple[str, ...]] = ("map", "map_50", "map_75")

    detections: list[Tensor]
    truth: list[Tensor]
    sizes: list[Tensor]

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        # Rows of all images in one flat float32 list each: (box, score, label), (box, label),
        # (detections, true boxes). MeanAveragePrecision's own states have one tensor per image, and
        # its gather hangs if ranks hold unequal numbers of images. Flat float32 lists are gathered
        # whole, also where one rank has none.
        for state in ("detections", "truth", "sizes"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, prediction: Sequence[Detections], targets: BoxTargets) -> None:
        """Store one batch.

        Args:
            prediction: one entry per image.
            targets: one entry per image; images that are not annotated are left out.

        Raises:
            ValueError: the numbers of images differ.
        """
        if len(prediction) != len(targets.annotated):
            expected = len(targets.annotated)
            raise ValueError(f"detection: expected {expected} images, got {len(prediction)}")
        for i, found in enumerate(prediction):
            if not targets.annotated[i]:
                continue
            boxes = targets.boxes[i]
            labels = targets.labels[i]
            if targets.known is not None:
                known = targets.known[i][found.labels]
                found = Detections(found.boxes[known], found.scores[known], found.labels[known])
            rows = (found.boxes, found.scores.unsqueeze(1), found.labels.unsqueeze(1))
            self.detections.append(torch.cat([part.float() for part in rows], 1).flatten())
            self.truth.append(torch.cat([boxes.float(), labels.unsqueeze(1).float()], 1).flatten())
            sizes = [float(len(found.boxes)), float(len(boxes))]
            self.sizes.append(torch.tensor(sizes, device=self.device))

    def compute(self) -> dict[str, Any]:
        """Percent by key; nan where there is no true box.

        Raises:
            ValueError: a label that is no class id.
        """
        num_found, num_true = _rows(self.sizes, 2).int().T.tolist()
        detections = [
            {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()}
            for rows in torch.split(_rows(self.detections, 6), num_found)
        ]
        truth = [
            {"boxes": rows[:, :4], "labels": rows[:, 4].long()}
            for rows in torch.split(_rows(self.truth, 5), num_true)
        ]
        self._check_labels([image["labels"] for image in detections + truth])
        per_class = dict.fromkeys(self.classes, math.nan)
        if not sum(num_true):
            return {**dict.fromkeys(_KEYS, math.nan), "per_class": per_class}
        values = self._evaluate(detections, truth)
        labels = values["classes"].view(-1).tolist()
        for label, value in zip(labels, values["map_per_class"].view(-1), strict=True):
            per_class[self.classes[int(label)]] = _percent(value)
        results: dict[str, Any] = {key: _percent(values[key]) for key in _KEYS}
        return {**results, "per_class": per_class}

    @staticmethod
    def _evaluate(
        detections: list[dict[str, Tensor]], truth: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        coco = MeanAveragePrecision(
            # Exact steps as in pycocotools; torchmetrics' own defaults are rounded to float32
            # (0.60000002).
            iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
            rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),
            class_metrics=True,
            backend="faster_coco_eval",
            sync_on_compute=False,
        )
        coco.warn_on_many_detections = False
        coco.update(detections, truth)
        return dict(coco.compute())

    def _check_labels(self, labels: list[Tensor]) -> None:
        present: set[int] = set()
        for image in labels:
            present.update(image.tolist())
        unknown = sorted(present - set(range(len(self.classes))))
        if unknown:
            raise ValueError(f"detection: class ids {unknown} outside 0..{len(self.classes) - 1}")


def _rows(state: list[Tensor] | Tensor, width: int) -> Tensor:
    """(N, width) on the host, from the list of a rank or the tensor that a sync made of all."""
    if not isinstance(state, Tensor):
        state = torch.cat([torch.empty(0), *(part.cpu() for part in state)])
    return state.cpu().view(-1, width)


def _percent(value: Tensor) -> float:
    """COCO's -1 means that there was nothing to find."""
    if value < 0:
        return math.nan
    return 100 * float(value)
