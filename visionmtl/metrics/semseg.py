"""Semantic segmentation: mIoU and pixel accuracy from one confusion matrix over the whole split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from visionmtl.metrics.base import TaskMetric
from visionmtl.types import DenseTargets


class SemSegMetric(TaskMetric):
    """IoU_c = TP / (TP + FP + FN) in percent.

    The counts are summed over the split, not averaged over images or batches. ``miou`` is the mean
    over the classes whose union is not empty, that is, which occur in the truth or are predicted;
    the other classes are nan in ``per_class``. ``pixel_accuracy`` is sum TP / number of valid
    pixels.

    Where an annotation speaks of some classes only (``known``), a pixel that is predicted as one of
    the others is missed, but no false positive of that class, which may well be there under another
    name.

    Args:
        classes: class names, their position is the class id.
    """

    headline: ClassVar[str] = "miou"
    score_key: ClassVar[str] = "miou"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {"miou": True, "pixel_accuracy": True}
    delta_m_keys: ClassVar[tuple[str, ...]] = ("miou", "pixel_accuracy")

    counts: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        # The (K, K + 1) confusion matrix row by row (truth, prediction), whose last column is for
        # predictions that the annotation does not speak of, then the valid pixels with an id
        # outside 0..K-1.
        bins = len(self.classes) * (len(self.classes) + 1) + 1
        self.add_state("counts", torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        """Count one batch.

        Args:
            prediction: logits (B, K, H, W), or class ids (B, H, W) of an integer type.
            targets: class ids (B, H, W).

        Raises:
            ValueError: the shapes do not fit.
        """
        k = len(self.classes)
        truth = targets.value.long()
        valid = targets.valid
        predicted = prediction
        if prediction.ndim == 4 and prediction.shape[1] == k:
            predicted = prediction.argmax(1)
        if predicted.shape != truth.shape or predicted.is_floating_point():
            b, h, w = truth.shape
            shapes = f"logits ({b}, {k}, {h}, {w}) or integer class ids ({b}, {h}, {w})"
            got = f"{prediction.dtype} {tuple(prediction.shape)}"
            raise ValueError(f"semseg: expected {shapes}, got {got}")
        predicted = predicted.long()
        in_range = (truth >= 0) & (truth < k) & (predicted >= 0) & (predicted < k)
        if targets.known is not None:
            images = torch.arange(len(truth), device=truth.device).view(-1, 1, 1)
            known = targets.known[images, predicted.clamp(0, k - 1)]
            predicted = torch.where(known, predicted, k)
        # Two bins after the matrix take the ids out of range and the invalid pixels: no masking, so
        # no host sync.
        index = torch.where(in_range, truth * (k + 1) + predicted, k * (k + 1))
        index = torch.where(valid, index, k * (k + 1) + 1).flatten()
        counts = torch.zeros(k * (k + 1) + 2, dtype=torch.int64, device=index.device)
        self.counts += counts.scatter_add_(0, index, torch.ones_like(index))[:-1]

    def compute(self) -> dict[str, Any]:
        """Percent by key; nan where nothing was valid.

        Raises:
            ValueError: valid pixels had a class id that does not exist.
        """
        counts = self.counts.cpu()
        k = len(self.classes)
        if counts[-1]:
            pixels = f"{int(counts[-1])} valid pixels"
            raise ValueError(f"semseg: {pixels} have a class id outside 0..{k - 1}")
        confusion = counts[:-1].view(k, k + 1).double()
        hits = confusion.diagonal()
        union = confusion[:, :k].sum(0) + confusion.sum(1) - hits
        iou = 100 * hits / union
        return {
            "miou": float(iou.nanmean()),
            "pixel_accuracy": float(100 * hits.sum() / confusion.sum()),
            "num_classes_present": int((union > 0).sum()),
            "per_class": dict(zip(self.classes, iou.tolist(), strict=True)),
        }
