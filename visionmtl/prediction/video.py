"""Predict on a video, frame by frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from visionmtl.prediction.result import Result
from visionmtl.tasks.coco import write_coco
from visionmtl.tasks.detection import DetectionResult

PANEL_SIDE = 640
"""Largest side of the pictures of a panel, pixels."""


def predict_video(
    predict: Callable[[np.ndarray], Result], path: Path, folder: Path, stem: str
) -> None:
    """Write ``<stem>_panel.mp4`` and, per detection task, one COCO file whose images are the
    frames.

    Args:
        predict: from a frame, uint8 (H, W, 3) RGB, to its result.
        path: the video.
        folder: of the files that are written.
        stem: of their names.

    Raises:
        ValueError: OpenCV cannot read the video, or not write the panels.
    """
    target = folder / f"{stem}_panel.mp4"
    for name in (path, target):
        if not str(name).isprintable():  # OpenCV may crash on a name that is not UTF-8
            raise ValueError(
                f"{path}: videos with unprintable characters in their path are not read"
            )
    frames: list[dict[str, Any]] = []
    annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
    classes: dict[str, tuple[str, ...]] = {}
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    try:
        with _PanelWriter(path, target, rate) as panels:
            while True:
                more, frame = capture.read()
                if not more:
                    break
                result = predict(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                panels.add(result)
                number = len(frames)
                height, width = result.image.shape[:2]
                frames.append(
                    {"id": number, "file_name": path.name, "width": width, "height": height}
                )
                for task, value in result.items():
                    if isinstance(value, DetectionResult):
                        classes[task] = value.classes
                        annotations[task] += value.to_coco(number)
    finally:
        capture.release()
    if not frames:
        raise ValueError(f"{path}: not a video that OpenCV reads")
    for task, boxes in annotations.items():
        write_coco(folder / f"{stem}_{task}.json", frames, boxes, classes[task])


class _PanelWriter:
    """The video of panels; the first one gives its size."""

    def __init__(self, source: Path, target: Path, rate: float) -> None:
        self.source = source
        self.target = target
        self.rate = rate
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()

    def add(self, result: Result) -> None:
        """Append the panel of a frame."""
        panel = cv2.cvtColor(result.panel(max_side=PANEL_SIDE), cv2.COLOR_RGB2BGR)
        height = panel.shape[0] // 2 * 2  # the codec takes even sizes only
        width = panel.shape[1] // 2 * 2
        if self._writer is None:
            self._writer = self._open(width, height)
        self._writer.write(panel[:height, :width])

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self.target), codec, self.rate, (width, height))
        if not writer.isOpened():
            raise ValueError(
                f"{self.source}: cannot write {self.target}, OpenCV has no MPEG-4 encoder here"
            )
        return writer
