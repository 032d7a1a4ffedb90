"""Saliency: the best F-measure and IoU over a row of thresholds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from visionmtl.metrics.base import TaskMetric, check_probabilities
from visionmtl.types import DenseTargets

_THRESHOLDS = 19
"""At 0.05, 0.10 .. 0.95."""
_BETA_SQUARED = 0.3
_INNER = slice(3, 18)
"""The thresholds 0.2, 0.25 .. 0.9."""


class SaliencyMetric(TaskMetric):
    """Three numbers of the PASCAL-Context tables, all in percent.

    A pixel is predicted salient where p >= threshold.

    - ``max_f``: F = (1 + b) P R / (b P + R) with b = beta^2 = 0.3, precision P and recall R over
      all pixels of the split, the largest over the thresholds 0.05, 0.1 .. 0.95: maxF of ATRC
      (https://arxiv.org/abs/2104.13874) and of InvPT (https://arxiv.org/abs/2203.07997).
    - ``max_f1``: 2 P R / (P + R) of the mean precision and the mean recall over images, the largest
      over the thresholds 0.2, 0.25 .. 0.9: maxF of Maninis et al.
      (https://arxiv.org/abs/1904.08918) and what takes over their evaluation.
    - ``miou``: the mean over images of the IoU of the salient pixels, the largest over the same
      thresholds: mIoU of Maninis et al., their main number.

    Images without a valid pixel do not count. An image without a salient pixel has no recall: it
    takes no part in ``max_f1`` (Maninis et al. count it as 0), its false positives lower ``max_f``,
    and its IoU is 100 where nothing is predicted, else 0. An image where nothing is predicted
    though something is salient has precision 0. Predictions that are nan are not salient. ``max_f``
    and ``max_f1`` are nan where no image of the split has a salient pixel.
    """

    headline: ClassVar[str] = "max_f"
    score_key: ClassVar[str] = "max_f"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {
        "max_f": True,
        "max_f1": True,
        "miou": True,
    }
    delta_m_keys: ClassVar[tuple[str, ...]] = ("max_f", "miou")

    pixels: Tensor
    shares: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        # By threshold: pixels that are truly salient, predicted so, both; sums over images of
        # precision, recall, IoU.
        pixels = torch.zeros(3, _THRESHOLDS, dtype=torch.int64)
        self.add_state("pixels", pixels, dist_reduce_fx="sum")
        self.add_state("shares", pixels.double(), dist_reduce_fx="sum")
        # Images with a salient pixel, and all.
        self.add_state("images", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        """Add one batch.

        Args:
            prediction: probabilities (B, 1, H, W).
            targets: 0 or 1 (B, H, W).

        Raises:
            ValueError: the shapes differ.
        """
        check_probabilities("saliency", prediction, targets)
        valid = targets.valid
        truth = valid & (targets.value > 0)
        true = truth.sum((1, 2)).double().unsqueeze(1).expand(-1, _THRESHOLDS)
        probability = prediction.squeeze(1)
        predicted = _at_thresholds(probability, valid)
        both = _at_thresholds(probability, truth)
        union = true + predicted - both
        has_pixels = valid.any(2).any(1)
        has_truth = true[:, 0] > 0
        precision = torch.where(has_truth.unsqueeze(1), both / predicted.clamp(min=1), 0.0)
        iou = torch.where(union > 0, both / union.clamp(min=1), has_pixels.double().unsqueeze(1))
        self.pixels += torch.stack([true, predicted, both]).sum(1).long()
        self.shares += torch.stack([precision, both / true.clamp(min=1), iou]).sum(1)
        self.images += torch.stack([has_truth.sum(), has_pixels.sum()])

    def compute(self) -> dict[str, float]:
        """Percent by key; nan where nothing was valid."""
        true, predicted, both = self.pixels.double()
        # P = both / predicted, R = both / true
        f = (1 + _BETA_SQUARED) * both / (_BETA_SQUARED * true + predicted)
        with_truth, images = self.images
        precision, recall, iou = self.shares[:, _INNER]
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12) / with_truth
        values = {"max_f": torch.where(true > 0, f, torch.nan), "max_f1": f1, "miou": iou / images}
        return {key: 100 * float(value.max()) for key, value in values.items()}


def _at_thresholds(probability: Tensor, counted: Tensor) -> Tensor:
    """How many of the counted pixels (B, H, W) reach each threshold, float64 (B, _THRESHOLDS)."""
    numbers = torch.arange(1, _THRESHOLDS + 1, device=probability.device)
    thresholds = numbers.double() / (_THRESHOLDS + 1)
    # So many thresholds a pixel passes.
    passed = torch.bucketize(probability.double().nan_to_num(0.0), thresholds, right=True)
    histogram = thresholds.new_zeros(len(probability), _THRESHOLDS + 1)
    histogram.scatter_add_(1, passed.flatten(1), counted.flatten(1).double())
    return histogram.flip(1).cumsum(1).flip(1)[:, 1:]
