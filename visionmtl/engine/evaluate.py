"""Evaluation: every sample once, metrics over the whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionmtl.data.mixture import mixture_of
from visionmtl.metrics.multitask import MultiTaskMetrics
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.infer import Size, evaluation_mode, infer
from visionmtl.types import Batch, Detections, MultiTaskDataset, TaskSpec

PICTURE_SCORE = 0.5
"""Detections below this score are left out of pictures."""


def evaluate(
    model: MultiTaskModel,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    tasks: Sequence[TaskSpec] | None = None,
    size: Size = None,
    on_batch: Callable[[Batch, dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] = bool,
    agree: Callable[[bool], bool] = bool,
) -> dict[str, dict[str, Any]] | None:
    """Metrics by task and key over all batches, see ``MultiTaskMetrics.compute``.

    Predictions are brought to the size of the labels. The modes of the modules are restored.

    Args:
        model: the network.
        batches: with targets for the tasks.
        device: where the model is.
        tasks: evaluate and compute these only; None for all tasks of the model.
        size: short side of what the network sees, see ``visionmtl.prediction.infer.infer``.
        on_batch: called with each batch and its predictions (progress, pictures).
        should_stop: polled after each batch.
        agree: whether this process stopped early -> whether any did. With several processes each
            has its share of the batches, and the results are those of all.

    Returns:
        The results, or None where ``should_stop`` ended the evaluation early.
    """
    where = (
        torch.device("cpu") if device.type == "mps" else device
    )  # MPS lacks the float64 that the sums need
    metrics = MultiTaskMetrics(tasks or model.tasks).to(where)
    names = [spec.name for spec in tasks] if tasks else None
    stopped = False
    with evaluation_mode(model):
        for batch in batches:
            moved = batch.to(device)
            predictions = {
                k: _to(v, where) for k, v in infer(model, moved.images, size, tasks=names).items()
            }
            metrics.update(predictions, moved.to(where).targets)
            if on_batch is not None:
                on_batch(batch, predictions)
            stopped = should_stop()
            if stopped:
                break
    return None if agree(stopped) else metrics.compute()


def _to(prediction: Tensor | list[Detections], device: torch.device) -> Tensor | list[Detections]:
    if isinstance(prediction, Tensor):
        return prediction.to(device)
    return [
        Detections(d.boxes.to(device), d.scores.to(device), d.labels.to(device)) for d in prediction
    ]


def _confident(prediction: Tensor | Detections) -> Tensor | Detections:
    """Without the many boxes that average precision needs and a picture does not."""
    if isinstance(prediction, Tensor):
        return prediction
    keep = prediction.scores >= PICTURE_SCORE
    return Detections(prediction.boxes[keep], prediction.scores[keep], prediction.labels[keep])


class PictureCollector:
    """Draws the first samples of an evaluation: image, then truth and prediction of every task.

    Args:
        model: whose tasks are drawn.
        count: how many samples.
        dataset: what is evaluated; of a mixture each set has its share of the samples.
    """

    def __init__(
        self, model: MultiTaskModel, count: int, dataset: MultiTaskDataset | None = None
    ) -> None:
        self.tasks = model.tasks
        self.rows: list[list[np.ndarray]] = []
        mixture = mixture_of(dataset)
        sets = mixture.names if mixture else [""]
        self._left = {name: len(range(i, count, len(sets))) for i, name in enumerate(sets)}

    def __call__(self, batch: Batch, predictions: dict[str, Any]) -> None:
        for i, sample_id in enumerate(batch.sample_ids):
            part = sample_id.partition("/")[0] if len(self._left) > 1 else next(iter(self._left))
            if not self._left[part]:
                continue
            self._left[part] -= 1
            image = batch.images[i].permute(1, 2, 0).cpu().numpy()
            row = [image]
            for spec in self.tasks:
                target, scale = (
                    batch.sample_target(spec, i),
                    spec.kind.max_value,
                )
                blank = np.full_like(image, 230)
                row.append(blank if target is None else spec.kind.draw(target, image, scale))
                result = spec.kind.result_of(_confident(predictions[spec.name][i]))
                row.append(result.draw(image, scale))
            self.rows.append(row)

    def sheet(self) -> np.ndarray:
        """One picture, a row per sample."""
        from visionmtl.tasks.drawing import grid

        titles = [
            "image",
            *(title for spec in self.tasks for title in (f"{spec.name}: truth", "prediction")),
        ]
        return grid(self.rows, titles)
