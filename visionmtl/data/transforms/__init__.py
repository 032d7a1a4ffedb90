"""Joint augmentation of an image and its targets."""

from visionmtl.data.transforms.base import (
    AUGMENTATIONS,
    GeometricAugmentation,
    PhotometricAugmentation,
)
from visionmtl.data.transforms.geometric import (
    HorizontalFlip,
    RandomCrop,
    RandomScaleCrop,
    Resize,
    Rotate,
)
from visionmtl.data.transforms.photometric import (
    JPEG,
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    RandomGamma,
    ToGray,
)

__all__ = [
    "AUGMENTATIONS",
    "JPEG",
    "ColorJitter",
    "GaussianBlur",
    "GaussianNoise",
    "GeometricAugmentation",
    "HorizontalFlip",
    "PhotometricAugmentation",
    "RandomCrop",
    "RandomGamma",
    "RandomScaleCrop",
    "Resize",
    "Rotate",
    "ToGray",
]
