"""Evaluation: every sample once, metrics over the whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from visionmtl.metrics.multitask import MultiTaskMetrics
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.infer import Size, evaluation_mode, infer
from visionmtl.types import Batch, Detections, TaskSpec


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
    where = device
    if device.type == "mps":  # it lacks the float64 that the sums need
        where = torch.device("cpu")
    metrics = MultiTaskMetrics(tasks or model.tasks).to(where)
    names = None
    if tasks:
        names = [spec.name for spec in tasks]
    stopped = False
    with evaluation_mode(model):
        for batch in batches:
            moved = batch.to(device)
            predictions: dict[str, Any] = {}
            for task, prediction in infer(model, moved.images, size, tasks=names).items():
                predictions[task] = _to(prediction, where)
            metrics.update(predictions, moved.to(where).targets)
            if on_batch is not None:
                on_batch(batch, predictions)
            stopped = should_stop()
            if stopped:
                break
    if agree(stopped):
        return None
    return metrics.compute()


def _to(prediction: Tensor | list[Detections], device: torch.device) -> Tensor | list[Detections]:
    if isinstance(prediction, Tensor):
        return prediction.to(device)
    moved = []
    for found in prediction:
        boxes = found.boxes.to(device)
        moved.append(Detections(boxes, found.scores.to(device), found.labels.to(device)))
    return moved
