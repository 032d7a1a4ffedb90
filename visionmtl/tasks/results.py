"""What comes out, in NumPy, at the size of the image: how each kind of task finishes, draws and
writes its result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from visionmtl.tasks.drawing import (
    draw_boxes,
    draw_depth,
    draw_disparity,
    draw_edges,
    draw_normals,
    draw_saliency,
    draw_semseg,
    grid,
    palette,
    save_image,
)
from visionmtl.types import BoxTarget, DenseTarget, Detections, TaskSpec


class TaskResult:
    """The result of one task for one image."""

    @staticmethod
    def finish(output: Tensor, resampled: bool) -> Tensor:
        """The prediction (B, ?, H, W) that an output (B, C, H, W) of a dense head, at its final
        size, stands for.

        ``resampled`` tells that values were mixed bilinearly. Boxes are not finished but decoded,
        by their head.
        """
        raise NotImplementedError

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Any) -> Self:
        """From what ``visionmtl.prediction.infer.infer`` gives for one image: a tensor without
        batch, or ``Detections``.
        """
        raise NotImplementedError

    @staticmethod
    def draw_target(
        spec: TaskSpec, target: Any, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        """The truth as a picture of the image's size, see ``draw``."""
        raise NotImplementedError

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        """A picture uint8 (H, W, 3) of the image's size; ``max_value`` as in
        ``visualize.draw_depth``.
        """
        raise NotImplementedError

    def scaled(self, scale: float) -> Self:
        """The result for the image in another size."""
        raise NotImplementedError

    def save(self, folder: Path, stem: str, source: Result) -> None:
        """Write files whose names begin with ``stem``; ``source`` has the image."""
        raise NotImplementedError


@dataclass(eq=False)
class SemSegResult(TaskResult):
    """Class ids uint8 (H, W), positions in ``classes``. Written as an indexed PNG: ids as indices,
    with a palette.
    """

    class_ids: np.ndarray
    classes: tuple[str, ...]

    @staticmethod
    def finish(output: Tensor, resampled: bool) -> Tensor:
        return output.argmax(1, keepdim=True).to(torch.uint8)

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Tensor) -> Self:
        return cls(prediction.cpu().numpy(), spec.classes)

    @staticmethod
    def draw_target(
        spec: TaskSpec, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_semseg(target.value, target.valid, image, spec.classes)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return draw_semseg(self.class_ids, None, image, self.classes)

    def scaled(self, scale: float) -> Self:
        return type(self)(_shrunk(self.class_ids, scale), self.classes)

    def save(self, folder: Path, stem: str, source: Result) -> None:
        indexed = Image.fromarray(self.class_ids)
        indexed.putpalette(palette(len(self.classes)).tobytes())
        indexed.save(folder / f"{stem}.png")


@dataclass(eq=False)
class RangeResult(TaskResult):
    """A positive number per pixel, float32 (H, W).

    Written as 16-bit PNG, round(``units`` x) and 0 where that is too large, and in colours.
    """

    values: np.ndarray
    units: ClassVar[int]

    @staticmethod
    def paint(
        values: np.ndarray, valid: np.ndarray | None = None, most: float | None = None, /
    ) -> np.ndarray:
        """A picture uint8 (H, W, 3), near is warm."""
        raise NotImplementedError

    @staticmethod
    def finish(output: Tensor, resampled: bool) -> Tensor:
        return output.float()

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Tensor) -> Self:
        return cls(prediction[0].cpu().numpy())

    @classmethod
    def draw_target(
        cls, spec: TaskSpec, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return cls.paint(target.value, target.valid, max_value)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return self.paint(self.values, None, max_value)

    def scaled(self, scale: float) -> Self:
        return type(self)(_shrunk(self.values, scale))

    def save(self, folder: Path, stem: str, source: Result) -> None:
        _save_16_bits(folder / f"{stem}.png", self.values, self.units)
        save_image(folder / f"{stem}_color.png", self.paint(self.values))


class DepthResult(RangeResult):
    """Depth in metres, written in millimetres (0 beyond 65.535 m)."""

    units = 1000
    paint = staticmethod(draw_depth)

    @property
    def metres(self) -> np.ndarray:
        """float32 (H, W)."""
        return self.values


class DisparityResult(RangeResult):
    """Disparity in the unit of the data set, larger is nearer; written in 1/256 of it (0 from 256
    on).
    """

    units = 256
    paint = staticmethod(draw_disparity)

    @property
    def disparity(self) -> np.ndarray:
        """float32 (H, W)."""
        return self.values


@dataclass(eq=False)
class MaskResult(TaskResult):
    """The probability float32 (H, W) of a yes. Written as 8-bit PNG, round(255 p)."""

    probability: np.ndarray

    @staticmethod
    def paint(probability: np.ndarray, valid: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        """A picture uint8 (H, W, 3) of probabilities (H, W)."""
        raise NotImplementedError

    @staticmethod
    def finish(output: Tensor, resampled: bool) -> Tensor:
        return output.float().sigmoid()

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Tensor) -> Self:
        return cls(prediction[0].cpu().numpy())

    @classmethod
    def draw_target(
        cls, spec: TaskSpec, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return cls.paint(target.value, target.valid, image)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return self.paint(self.probability, None, image)

    def scaled(self, scale: float) -> Self:
        return type(self)(
            _shrunk(self.probability, scale, cv2.INTER_AREA)
        )  # thin lines grow pale, they do not break

    def save(self, folder: Path, stem: str, source: Result) -> None:
        save_image(
            folder / f"{stem}.png", (self.probability * np.float32(255)).round().astype(np.uint8)
        )


class SaliencyResult(MaskResult):
    """The probability that a pixel is salient."""

    paint = staticmethod(draw_saliency)


class EdgeResult(MaskResult):
    """The probability that a pixel lies on an edge."""

    paint = staticmethod(draw_edges)


@dataclass(eq=False)
class NormalsResult(TaskResult):
    """Unit vectors float32 (H, W, 3), camera frame: x right, y down, z forward. Written as PNG,
    round(127 n) + 128.
    """

    vectors: np.ndarray

    @staticmethod
    def finish(output: Tensor, resampled: bool) -> Tensor:
        return F.normalize(output.float()) if resampled else output.float()

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Tensor) -> Self:
        return cls(prediction.permute(1, 2, 0).contiguous().cpu().numpy())

    @staticmethod
    def draw_target(
        spec: TaskSpec, target: DenseTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_normals(target.value, target.valid)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return draw_normals(self.vectors)

    def scaled(self, scale: float) -> Self:
        return type(self)(_shrunk(self.vectors, scale))

    def save(self, folder: Path, stem: str, source: Result) -> None:
        save_image(
            folder / f"{stem}.png",
            ((self.vectors * np.float32(127)).round() + 128).astype(np.uint8),
        )


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

    @classmethod
    def from_prediction(cls, spec: TaskSpec, prediction: Detections) -> Self:
        boxes, scores, labels = (
            prediction.boxes.cpu(),
            prediction.scores.cpu(),
            prediction.labels.cpu(),
        )
        return cls(boxes.numpy(), scores.numpy(), labels.numpy(), spec.classes)

    @staticmethod
    def draw_target(
        spec: TaskSpec, target: BoxTarget, image: np.ndarray, max_value: float | None = None
    ) -> np.ndarray:
        return draw_boxes(image, target.boxes, target.labels, None, spec.classes)

    def draw(self, image: np.ndarray, max_value: float | None = None) -> np.ndarray:
        return draw_boxes(image, self.boxes, self.labels, self.scores, self.classes)

    def scaled(self, scale: float) -> Self:
        return type(self)(self.boxes * np.float32(scale), self.scores, self.labels, self.classes)

    def save(self, folder: Path, stem: str, source: Result) -> None:
        height, width = source.image.shape[:2]
        images = [{"id": 0, "file_name": source.name, "width": width, "height": height}]
        write_coco(folder / f"{stem}.json", images, self.to_coco(0), self.classes)
        save_image(folder / f"{stem}_boxes.png", self.draw(source.image))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The boxes in COCO's results format (bbox is x, y, width, height), with the names of the
        classes.
        """
        return [
            {
                "image_id": image_id,
                "category_id": label,
                "category_name": self.classes[label],
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 4),
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]


@dataclass(eq=False)
class Result(Mapping[str, TaskResult]):
    """Every task's result for one image, at the size of the image: a mapping in task order.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        results: by task name, in task order.
        name: file name of the image; empty for an array.
    """

    image: np.ndarray
    results: dict[str, TaskResult]
    name: str = ""

    def __getitem__(self, task: str) -> TaskResult:
        return self.results[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def panel(self, max_side: int = 1024) -> np.ndarray:
        """The image and each task side by side, uint8 RGB; larger images are first reduced to
        ``max_side``.
        """
        scale = min(1.0, max_side / max(self.image.shape[:2]))
        image = _shrunk(self.image, scale, cv2.INTER_AREA)
        return grid(
            [[image, *(result.scaled(scale).draw(image) for result in self.values())]],
            ["image", *self],
        )

    def save(self, folder: Path | str, stem: str) -> None:
        """Write ``<stem>_panel.jpg`` and each task's files, ``<stem>_<task>*``, over those that are
        there.

        Raises:
            ValueError: the folder does not exist.
        """
        folder = Path(folder)
        save_image(folder / f"{stem}_panel.jpg", self.panel())
        for task, result in self.items():
            result.save(folder, f"{stem}_{task}", self)


def write_coco(
    path: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    classes: Sequence[str],
) -> None:
    """COCO instances: what the results format lacks is added."""
    full = [
        {"id": i, **a, "area": round(a["bbox"][2] * a["bbox"][3], 2), "iscrowd": 0}
        for i, a in enumerate(annotations, start=1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    content = {"images": images, "annotations": full, "categories": categories}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _save_16_bits(path: Path, values: np.ndarray, per_unit: int) -> None:
    """Write round(per_unit * value); what does not fit is 0, "unknown" to every reader: a clipped
    value would lie.
    """
    numbers = (values * np.float32(per_unit)).round()
    numbers[~(numbers <= np.iinfo(np.uint16).max)] = 0
    save_image(path, numbers.astype(np.uint16))


def _shrunk(array: np.ndarray, scale: float, method: int = cv2.INTER_NEAREST) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in array.shape[:2])
    return array if scale == 1 else cv2.resize(array, (width, height), interpolation=method)
