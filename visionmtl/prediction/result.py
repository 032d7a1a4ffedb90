"""The predictions of every task for one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from visionmtl.tasks.drawing import grid, save_image
from visionmtl.tasks.result import TaskResult, shrunk


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
        image = shrunk(self.image, scale, cv2.INTER_AREA)
        pictures = [result.scaled(scale).draw(image) for result in self.values()]
        return grid([[image, *pictures]], ["image", *self])

    def save(self, folder: Path | str, stem: str) -> None:
        """Write ``<stem>_panel.jpg`` and each task's files, ``<stem>_<task>*``, over those that are
        there.

        Raises:
            ValueError: the folder does not exist.
        """
        folder = Path(folder)
        save_image(folder / f"{stem}_panel.jpg", self.panel())
        for task, result in self.items():
            result.save(folder, f"{stem}_{task}", self.image, self.name)
