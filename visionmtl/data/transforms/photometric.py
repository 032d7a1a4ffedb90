"""Augmentations that change the colours of the image, all of them made by albumentations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from visionmtl._options import Fraction, Interval, Within
from visionmtl.data.transforms.base import AUGMENTATIONS, PhotometricAugmentation

HueShift = Annotated[float, Field(ge=0, le=0.5)]


@AUGMENTATIONS.register("color_jitter")
@dataclass(frozen=True, kw_only=True)
class ColorJitter(PhotometricAugmentation):
    """Changes brightness, contrast, saturation and hue.

    Args:
        brightness: x of its factor, from [1 - x, 1 + x].
        contrast: the same.
        saturation: the same.
        hue: x of its shift, from [-x, x] of the circle.
        p: the probability.
    """

    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2
    hue: HueShift = 0.05
    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        return albumentations.ColorJitter(
            brightness=(1 - self.brightness, 1 + self.brightness),
            contrast=(1 - self.contrast, 1 + self.contrast),
            saturation=(1 - self.saturation, 1 + self.saturation),
            hue=(-self.hue, self.hue),
            p=self.p,
        )


@AUGMENTATIONS.register("gaussian_blur")
@dataclass(frozen=True, kw_only=True)
class GaussianBlur(PhotometricAugmentation):
    """Blurs.

    Args:
        sigma: [lo, hi] of the standard deviation in pixels.
        p: the probability.
    """

    sigma: Annotated[Interval, Within(0.1, 20)] = (0.3, 1.5)
    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        return albumentations.GaussianBlur(blur_limit=0, sigma_limit=self.sigma, p=self.p)


@AUGMENTATIONS.register("gaussian_noise")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(PhotometricAugmentation):
    """Adds noise.

    Args:
        std: [lo, hi] of the standard deviation, as a fraction of the full range.
        p: the probability.
    """

    std: Annotated[Interval, Within(0, 1)] = (0.01, 0.05)
    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        return albumentations.GaussNoise(std_range=self.std, p=self.p)


@AUGMENTATIONS.register("random_gamma")
@dataclass(frozen=True, kw_only=True)
class RandomGamma(PhotometricAugmentation):
    """Raises the levels, in 0..1, to a random power.

    Args:
        gamma: [lo, hi] of the exponent.
        p: the probability.
    """

    gamma: Annotated[Interval, Within(0.1, 10)] = (0.8, 1.25)
    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        low, high = self.gamma
        return albumentations.RandomGamma(gamma_limit=(100 * low, 100 * high), p=self.p)


@AUGMENTATIONS.register("to_gray")
@dataclass(frozen=True, kw_only=True)
class ToGray(PhotometricAugmentation):
    """Takes the colours away.

    Args:
        p: the probability.
    """

    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        return albumentations.ToGray(p=self.p)


@AUGMENTATIONS.register("jpeg")
@dataclass(frozen=True, kw_only=True)
class JPEG(PhotometricAugmentation):
    """Compresses as JPEG does.

    Args:
        quality: [lo, hi] of the quality in per cent, rounded down to integers.
        p: the probability.
    """

    quality: Annotated[Interval, Within(1, 100)] = (50, 95)
    p: Fraction = 0.5

    def make(self) -> Any:
        import albumentations

        low, high = self.quality
        return albumentations.ImageCompression(quality_range=(int(low), int(high)), p=self.p)
