"""Object detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageDraw

from visionmtl.metrics.detection import DetectionMetric
from visionmtl.tasks.boxes import BoxKind
from visionmtl.tasks.classes import ClassKind
from visionmtl.tasks.coco import write_coco
from visionmtl.tasks.drawing import palette, save_image
from visionmtl.tasks.drawing.text import draw_tag, font_for
from visionmtl.tasks.result import TaskResult
from visionmtl.types import KINDS, BoxTarget, Detections


@dataclass(eq=False)
class DetectionResult(TaskResult):
    """Boxes float32 (N, 4) x1 y1 x2 y2 in pixels, best first; scores (N,) in 0..1; labels int64
    (N,) in ``classes``.

    Written as COCO JSON and as a picture.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return draw_boxes(image, self.boxes, self.labels, self.scores, self.classes)

    def scaled(self, scale: float) -> Self:
        return type(self)(self.boxes * np.float32(scale), self.scores, self.labels, self.classes)

    def save(self, folder: Path, stem: str, image: np.ndarray, name: str = "") -> None:
        height, width = image.shape[:2]
        images = [{"id": 0, "file_name": name, "width": width, "height": height}]
        write_coco(folder / f"{stem}.json", images, self.to_coco(0), self.classes)
        save_image(folder / f"{stem}_boxes.png", self.draw(image))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The boxes in COCO's results format (bbox is x, y, width, height), with the names of the
        classes.
        """
        found = []
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            found.append(
                {
                    "image_id": image_id,
                    "category_id": label,
                    "category_name": self.classes[label],
                    "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
                    "score": round(score, 4),
                }
            )
        return found


@KINDS.register("detection")
@dataclass(frozen=True)
class Detection(ClassKind, BoxKind):
    """2-D object detection: axis-aligned boxes, one of ``classes`` each.

    Raises:
        ValueError: missing or repeated classes.
    """

    head: ClassVar[str] = "fcos"
    loss: ClassVar[str] = "fcos"
    metric = DetectionMetric

    def make_metric(self) -> DetectionMetric:
        return DetectionMetric(self.classes)

    def result_of(self, prediction: Detections) -> DetectionResult:
        return DetectionResult(
            prediction.boxes.cpu().numpy(),
            prediction.scores.cpu().numpy(),
            prediction.labels.cpu().numpy(),
            self.classes,
        )

    def draw(
        self, target: BoxTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_boxes(image, target.boxes, target.labels, None, self.classes)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[str],
) -> np.ndarray:
    """Boxes over the image, each with its class and, where given, its score; the best on top.

    Args:
        image: uint8 (H, W, 3).
        boxes: (N, 4), x1 y1 x2 y2 in pixels.
        labels: (N,), class ids.
        scores: (N,), in 0..1; None for the truth.
        classes: class names by id.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    font = font_for(image)
    width = max(1, round(min(image.shape[:2]) ** 0.5 / 8))
    order = np.arange(len(boxes))
    if scores is not None:
        order = np.argsort(scores, kind="stable")
    colours = palette(len(classes))[labels]
    corners = boxes.round().astype(int).tolist()
    for i in order:
        x1, y1, x2, y2 = corners[i]
        colour = tuple(colours[i].tolist())
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=width)
    for i in order:
        text = classes[labels[i]]
        if scores is not None:
            text += f" {scores[i]:.2f}"
        draw_tag(draw, text, corners[i][0], corners[i][1], colours[i], font)
    return np.array(canvas)
