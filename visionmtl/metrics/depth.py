"""Depth: errors pooled over all valid pixels of the split, in float64."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from visionmtl.metrics.base import TaskMetric
from visionmtl.types import DenseTargets

_ERRORS = (
    "abs_err",
    "abs_rel",
    "sq_rel",
    "square",
    "log_square",
    "log",
    "log10",
    "delta1",
    "delta2",
    "delta3",
)


class DepthMetric(TaskMetric):
    """The usual depth errors of prediction p and truth g.

    Eigen et al. 2014, https://arxiv.org/abs/1406.2283.

    - ``abs_err`` mean |p - g| and ``rmse`` sqrt(mean (p - g)^2), metres; ``sq_rel`` mean (p - g)^2
      / g, metres
    - ``abs_rel`` mean |p - g| / g; ``rmse_log`` sqrt(mean d^2) with d = ln p - ln g; ``log10`` mean
      |log10 p - log10 g|
    - ``silog`` 100 sqrt(mean d^2 - (mean d)^2), as on the KITTI benchmark
    - ``delta1``, ``delta2``, ``delta3``: percent of pixels with max(p / g, g / p) < 1.25, 1.25^2,
      1.25^3
    - ``rmse_per_image``: mean over images of their own RMSE, metres; other papers call this number
      RMSE

    All but the last are pooled over the split. A pixel counts if its target is valid and min_depth
    <= g <= max_depth. As is usual, p is clamped to [min_depth, max_depth] first. A nan in p makes
    the errors nan and fails the shares.

    Args:
        max_depth: metres.
        min_depth: metres, positive.

    Raises:
        ValueError: not 0 < min_depth < max_depth.
    """

    expects: ClassVar[str] = "depth: expected metres"
    headline: ClassVar[str] = "rmse"
    score_key: ClassVar[str] = "delta1"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {
        "abs_err": False,
        "abs_rel": False,
        "sq_rel": False,
        "rmse": False,
        "rmse_log": False,
        "log10": False,
        "silog": False,
        "delta1": True,
        "delta2": True,
        "delta3": True,
        "rmse_per_image": False,
    }
    delta_m_keys: ClassVar[tuple[str, ...]] = ("abs_err", "abs_rel")

    sums: Tensor
    pixels: Tensor
    image_rmse: Tensor
    images: Tensor

    def __init__(self, max_depth: float, min_depth: float = 1e-3) -> None:
        super().__init__()
        if not 0 < min_depth < max_depth:
            got = f"got {min_depth} and {max_depth}"
            raise ValueError(f"depth: expected 0 < min_depth < max_depth metres, {got}")
        self.max_depth = max_depth
        self.min_depth = min_depth
        self.add_state("sums", torch.zeros(len(_ERRORS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("image_rmse", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        """Add one batch.

        Args:
            prediction: metres (B, 1, H, W).
            targets: metres (B, 1, H, W).

        Raises:
            ValueError: the shapes differ.
        """
        if prediction.shape != targets.value.shape:
            expected = tuple(targets.value.shape)
            got = tuple(prediction.shape)
            raise ValueError(f"{self.expects} of shape {expected}, got {got}")
        g = targets.value.double()
        valid = targets.valid.unsqueeze(1) & (g >= self.min_depth) & (g <= self.max_depth)
        # 1 m in both places: every error of an invalid pixel is exactly 0 and no logarithm sees a
        # 0.
        g = torch.where(valid, g, 1.0)
        p = torch.where(valid, prediction.double().clamp(self.min_depth, self.max_depth), 1.0)
        sums = self._sums_per_image(p, g, valid)
        pixels = valid.sum((1, 2, 3))
        self.sums += sums.sum(0)
        self.pixels += pixels.sum()
        self.image_rmse += (sums[:, _ERRORS.index("square")] / pixels.clamp(min=1)).sqrt().sum()
        self.images += (pixels > 0).sum()

    @staticmethod
    def _sums_per_image(p: Tensor, g: Tensor, valid: Tensor) -> Tensor:
        """(B, len(_ERRORS)) from (B, 1, H, W)."""
        error = p - g
        log_error = p.log() - g.log()
        ratio = torch.maximum(p / g, g / p)
        terms = (
            error.abs(),
            error.abs() / g,
            error.square() / g,
            error.square(),
            log_error.square(),
            log_error,
            log_error.abs() / math.log(10),
            (ratio < 1.25) & valid,
            (ratio < 1.25**2) & valid,
            (ratio < 1.25**3) & valid,
        )
        return torch.stack([term.sum((1, 2, 3), dtype=torch.float64) for term in terms], dim=1)

    def compute(self) -> dict[str, float]:
        """Value by key; nan where nothing was valid."""
        mean = dict(zip(_ERRORS, (self.sums / self.pixels).tolist(), strict=True))
        # Rounding may leave the variance of a perfect prediction just below 0; max() with nan first
        # keeps the nan.
        variance = max(mean["log_square"] - mean["log"] ** 2, 0.0)
        return {
            "abs_err": mean["abs_err"],
            "abs_rel": mean["abs_rel"],
            "sq_rel": mean["sq_rel"],
            "rmse": math.sqrt(mean["square"]),
            "rmse_log": math.sqrt(mean["log_square"]),
            "log10": mean["log10"],
            "silog": 100 * math.sqrt(variance),
            "delta1": 100 * mean["delta1"],
            "delta2": 100 * mean["delta2"],
            "delta3": 100 * mean["delta3"],
            "rmse_per_image": float(self.image_rmse / self.images),
        }
