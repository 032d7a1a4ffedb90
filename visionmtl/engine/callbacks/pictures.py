"""Pictures of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from visionmtl.data.mixture import mixture_of
from visionmtl.engine.callbacks.base import Callback, Run
from visionmtl.tasks.drawing import grid, save_image
from visionmtl.types import Batch, Detections, MultiTaskDataset, TaskSpec

MIN_SCORE = 0.5
"""Detections below this score are left out of pictures."""


class Pictures(Callback):
    """Draws the first samples of each evaluation, in ``epoch_0001.jpg`` and so on.

    Args:
        folder: of the pictures; made if missing.
        count: how many samples.
        dataset: what is evaluated; of a mixture each set has its share of the samples.

    Attributes:
        sheet: the last picture (H, W, 3) uint8; None before the first.
    """

    def __init__(self, folder: Path, count: int, dataset: MultiTaskDataset | None = None) -> None:
        self.folder = folder
        self.count = count
        self.dataset = dataset
        self.sheet: np.ndarray | None = None

    def on_evaluation_start(self, run: Run) -> None:
        self._collector = PictureCollector(run.tasks, self.count, self.dataset)

    def on_evaluation_batch(self, run: Run, batch: Batch, predictions: Mapping[str, Any]) -> None:
        self._collector(batch, predictions)

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        if self._collector.rows:
            self.sheet = self._collector.sheet()
            self.folder.mkdir(parents=True, exist_ok=True)
            save_image(self.folder / f"epoch_{run.progress.epoch:04d}.jpg", self.sheet)


class PictureCollector:
    """Draws the first samples of an evaluation: image, then truth and prediction of every task.

    Args:
        tasks: what is drawn.
        count: how many samples.
        dataset: what is evaluated; of a mixture each set has its share of the samples.
    """

    def __init__(
        self, tasks: Sequence[TaskSpec], count: int, dataset: MultiTaskDataset | None = None
    ) -> None:
        self.tasks = tasks
        self.rows: list[list[np.ndarray]] = []
        mixture = mixture_of(dataset)
        sets = [""]
        if mixture:
            sets = mixture.names
        self._left: dict[str, int] = {}
        for i, name in enumerate(sets):
            self._left[name] = len(range(i, count, len(sets)))

    def __call__(self, batch: Batch, predictions: Mapping[str, Any]) -> None:
        for i, sample_id in enumerate(batch.sample_ids):
            name = ""
            if len(self._left) > 1:
                name = sample_id.partition("/")[0]
            if self._left.get(name, 0):
                self._left[name] -= 1
                self.rows.append(self._row(batch, predictions, i))

    def sheet(self) -> np.ndarray:
        """One picture (H, W, 3) uint8, a row per sample."""
        titles = ["image"]
        for spec in self.tasks:
            titles += [f"{spec.name}: truth", "prediction"]
        return grid(self.rows, titles)

    def _row(self, batch: Batch, predictions: Mapping[str, Any], i: int) -> list[np.ndarray]:
        """Pictures of sample ``i`` of a batch."""
        image = batch.images[i].permute(1, 2, 0).cpu().numpy()
        row = [image]
        for spec in self.tasks:
            scale = spec.kind.max_value
            target = batch.sample_target(spec, i)
            truth = np.full_like(image, 230)
            if target is not None:
                truth = spec.kind.draw(target, image, scale)
            prediction = spec.kind.result_of(_confident(predictions[spec.name][i]))
            row += [truth, prediction.draw(image, scale)]
        return row


def _confident(prediction: Tensor | Detections) -> Tensor | Detections:
    """Without the many boxes that average precision needs and a picture does not."""
    if isinstance(prediction, Tensor):
        return prediction
    keep = prediction.scores >= MIN_SCORE
    return Detections(prediction.boxes[keep], prediction.scores[keep], prediction.labels[keep])
