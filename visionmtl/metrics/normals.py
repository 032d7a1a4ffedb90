"""Surface normals: the angle between predicted and true normal, in degrees."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from visionmtl.metrics.base import TaskMetric
from visionmtl.types import DenseTargets

_THRESHOLDS = (11.25, 22.5, 30.0)
_BINS_PER_DEGREE = 100
_NUM_BINS = 180 * _BINS_PER_DEGREE + 1


class NormalsMetric(TaskMetric):
    """Mean and median angle in degrees, and percent of pixels below 11.25, 22.5 and 30 degrees.

    Fouhey et al. 2013. All valid pixels of the split count. The median is that of all valid pixels
    of the split, not a mean of medians of batches. It comes from a histogram with bins of 0.01
    degree, in constant memory, and is right to half a bin (0.005 degree). The other values are
    exact.

    Vectors need no unit length. A zero vector has no direction: as a prediction it counts as 90
    degrees. A prediction that is not finite makes the mean nan and counts as 180 degrees in the
    median and the shares.
    """

    headline: ClassVar[str] = "mean"
    # A threshold near the mean error of published NYUv2 models (18 to 28 degrees) neither saturates
    # nor starts at 0, and unlike 11.25 it lies well above the noise of normals that were computed
    # from a depth sensor.
    score_key: ClassVar[str] = "within_22.5"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {
        "mean": False,
        "median": False,
        "within_11.25": True,
        "within_22.5": True,
        "within_30": True,
    }
    delta_m_keys: ClassVar[tuple[str, ...]] = (
        "mean",
        "median",
        "within_11.25",
        "within_22.5",
        "within_30",
    )

    histogram: Tensor
    angle_sum: Tensor
    within: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("histogram", torch.zeros(_NUM_BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("angle_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        within = torch.zeros(len(_THRESHOLDS), dtype=torch.int64)
        self.add_state("within", within, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        """Add one batch.

        Args:
            prediction: vectors (B, 3, H, W).
            targets: unit vectors (B, 3, H, W).

        Raises:
            ValueError: the shapes differ.
        """
        if prediction.shape != targets.value.shape:
            expected = tuple(targets.value.shape)
            got = tuple(prediction.shape)
            raise ValueError(f"normals: expected vectors of shape {expected}, got {got}")
        valid = targets.valid
        angle = angle_degrees(prediction, targets.value)
        self.angle_sum += torch.where(valid, angle, 0.0).sum()
        angle = angle.nan_to_num(180.0)
        for i, threshold in enumerate(_THRESHOLDS):
            self.within[i] += ((angle < threshold) & valid).sum()
        # One bin after the last takes the invalid pixels: no masking, so no host sync.
        index = torch.where(valid, (angle * _BINS_PER_DEGREE).round().long(), _NUM_BINS).flatten()
        histogram = torch.zeros(_NUM_BINS + 1, dtype=torch.int64, device=index.device)
        self.histogram += histogram.scatter_add_(0, index, torch.ones_like(index))[:-1]

    def compute(self) -> dict[str, float]:
        """Degrees and percent by key; nan where nothing was valid."""
        pixels = self.histogram.sum()
        shares = (100 * self.within / pixels).tolist()
        values = {
            "mean": float(self.angle_sum / pixels),
            "median": _median(self.histogram.cpu()),
        }
        for threshold, share in zip(_THRESHOLDS, shares, strict=True):
            values[f"within_{threshold:g}"] = share
        return values


def angle_degrees(a: Tensor, b: Tensor) -> Tensor:
    """Angle between the vectors of (B, 3, H, W) maps, in degrees, float64 (B, H, W).

    It is 90 where one has no length. ``2 atan2(||b|a - |a|b|, ||b|a + |a|b|)`` (Kahan) needs no
    unit length and keeps its digits near 0 and 180 degrees, where acos loses them.
    """
    a = a.double()
    b = b.double()
    length_a = _length(a)
    length_b = _length(b)
    scaled_a = a * length_b
    scaled_b = b * length_a
    half = torch.atan2(_length(scaled_a - scaled_b), _length(scaled_a + scaled_b))
    angle = 2 * torch.rad2deg(half)
    return torch.where(length_a * length_b == 0, 90.0, angle).squeeze(1)


def _length(vectors: Tensor) -> Tensor:
    # On a CPU about ten times faster than norm(dim=1).
    return vectors.square().sum(1, keepdim=True).sqrt()


def _median(histogram: Tensor) -> float:
    """The median in degrees: the mean of the two middle values where their number is even."""
    cumulative = histogram.cumsum(0)
    count = int(cumulative[-1])
    if not count:
        return math.nan
    ranks = torch.tensor([(count - 1) // 2, count // 2]) + 1
    return float(torch.searchsorted(cumulative, ranks).double().mean()) / _BINS_PER_DEGREE
