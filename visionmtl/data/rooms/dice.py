"""Random numbers, colours and textures of the procedural rooms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionmtl.data.rooms.scene import Texture, Vector

Range = tuple[float, float]

CREAM = (0.85, 0.8, 0.68)

_PAINTS = (
    (0.98, 0.75, 0.80),
    (0.04, 0.75, 0.90),
    (0.10, 0.75, 0.92),
    (0.14, 0.55, 0.92),
    (0.26, 0.50, 0.70),
    (0.38, 0.50, 0.62),
    (0.47, 0.60, 0.70),
    (0.56, 0.65, 0.85),
    (0.62, 0.70, 0.75),
    (0.72, 0.45, 0.70),
    (0.92, 0.45, 0.88),
    (0.08, 0.15, 0.92),
    (0.60, 0.20, 0.40),
)
"""Hue, saturation and brightness of red, orange, amber, yellow, olive, green, teal, sky, blue,
violet, pink, cream and slate: what people paint things with, no neon.
"""


class Dice:
    """Random numbers from the plain uniform stream of a generator: the one that NumPy never
    changes.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.random() * len(options))]

    def direction(self) -> tuple[float, float]:
        """Cosine and sine of an angle in -90..90 degrees, from the rational points of the
        circle.
        """
        t = self.between(-1, 1)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)

    def color(self, hue: Range, saturation: Range, value: Range) -> Vector:
        """A linear RGB colour from ranges of hue, saturation and brightness, all in 0..1."""
        h = self.between(*hue)
        s = self.between(*saturation)
        v = self.between(*value)
        return _linear(h, s, v, 5), _linear(h, s, v, 3), _linear(h, s, v, 1)

    def paint(self) -> Vector:
        """A linear RGB colour near one of ``_PAINTS``."""
        hue, saturation, value = _PAINTS[int(self.rng.random() * len(_PAINTS))]
        return self.color(
            (hue, hue + 0.05), (saturation - 0.15, saturation + 0.05), (value - 0.15, value + 0.05)
        )

    def texture(self, cell: float) -> Texture:
        """A colourful texture whose second colour is a dark shade of the first, cream or another
        colour; about ``cell`` metres large.
        """
        kind = self.pick(("solid", "solid", "checker", "stripes", "bands", "noise", "planks"))
        first = self.paint()
        other = self.paint()
        roll = self.between(0, 1)
        second = other
        if roll < 0.35:
            second = shade(first, 0.45)
        elif roll < 0.65:
            second = CREAM
        size = cell * self.between(0.7, 1.4)
        phase = self.between(0, 9)
        return Texture(kind, (first, second), size, phase, gloss=self.between(0.0, 0.8))


def shade(color: Vector, factor: float) -> Vector:
    """A darker colour."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def _linear(hue: float, saturation: float, value: float, shift: int) -> float:
    """Red (shift 5), green (3) or blue (1) of a colour, linear (gamma 2)."""
    ramp = (shift + 6 * hue) % 6
    level: float = value - value * saturation * max(0.0, min(ramp, 4 - ramp, 1.0))
    return level**2
