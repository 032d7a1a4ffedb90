"""A number over several seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over ``count`` seeds; nan where they are not defined (one
    seed has no std).
    """

    mean: float
    std: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        count = len(values)
        if any(math.isnan(value) for value in values):
            return cls(math.nan, math.nan, count)
        if count == 1:
            return cls(fmean(values), math.nan, count)
        return cls(fmean(values), stdev(values), count)

    @property
    def standard_error(self) -> float:
        return self.std / math.sqrt(self.count)

    def text(self, decimals: int, sign: str = "") -> str:
        """``69.35 ± 0.52``.

        >>> Spread.of([1.0, 2.0]).text(2, sign="+")
        '+1.50 ± 0.71'
        """
        if math.isnan(self.mean):
            return "n/a"
        text = f"{self.mean:{sign}z.{decimals}f}"
        if not math.isnan(self.std):
            text += f" ± {self.std:.{decimals}f}"
        return text

    def significant(self) -> str:
        """``text`` with four digits of the mean."""
        decimals = 3
        if self.mean and not math.isnan(self.mean):
            decimals = max(0, 3 - math.floor(math.log10(abs(self.mean))))
        return self.text(decimals)
