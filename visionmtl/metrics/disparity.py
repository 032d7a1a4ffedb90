"""Disparity: errors pooled over all valid pixels of the split, in float64."""

from __future__ import annotations

from typing import ClassVar

from visionmtl.metrics.depth import DepthMetric

_SMALLEST = 1e-6


class DisparityMetric(DepthMetric):
    """Errors of prediction p and truth g as in ``DepthMetric``, in the unit of the data set.

    - ``abs_err`` mean |p - g| and ``rmse`` sqrt(mean (p - g)^2); ``abs_rel`` mean |p - g| / g
    - ``delta1``, ``delta2``, ``delta3``: percent of pixels with max(p / g, g / p) < 1.25, 1.25^2,
      1.25^3; inverting both does not change the ratio, so these are also the shares of the depths,
      without baseline and focal length

    p is clamped to [1e-6, 1] * max_disparity first; every valid target up to max_disparity counts.
    The headline is ``abs_err``: with ``abs_rel`` it is what tables on Cityscapes report (MTAN,
    https://arxiv.org/abs/1803.10704, and after it), and what the loss is.
    """

    expects: ClassVar[str] = "disparity: expected values"
    headline: ClassVar[str] = "abs_err"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {
        "abs_err": False,
        "abs_rel": False,
        "rmse": False,
        "delta1": True,
        "delta2": True,
        "delta3": True,
    }

    def __init__(self, max_disparity: float) -> None:
        super().__init__(max_disparity, _SMALLEST * max_disparity)

    def compute(self) -> dict[str, float]:
        """Value by key; nan where nothing was valid."""
        values = super().compute()
        return {key: values[key] for key in self.higher_is_better_by_key}
