"""What every augmentation offers, and their registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visionmtl._faults import shown
from visionmtl._registry import Registry
from visionmtl.data.transforms.view import View, Zoom


class GeometricAugmentation:
    """An augmentation that moves the image and all its targets."""

    def move(self, view: View, rng: np.random.Generator, zoom: Zoom) -> View:
        """The view after this augmentation.

        Args:
            view: the view before it.
            rng: its random choices.
            zoom: what a change of scale means.

        Raises:
            ValueError: it cannot be applied to this view; the message does not name it.
        """
        raise NotImplementedError


class PhotometricAugmentation:
    """An augmentation that changes the colours of the image and none of its targets."""

    def make(self) -> Any:
        """The transform of albumentations, which draws its own random numbers."""
        raise NotImplementedError


Augmentation = GeometricAugmentation | PhotometricAugmentation

AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")
"""Name in a config -> class."""

REFUSED = ("shear", "perspective", "elastic")
"""Augmentations of other programs after which surface normals would be wrong."""


def build_augmentation(given: Augmentation | Mapping[str, Any]) -> Augmentation:
    """An augmentation from ``{"type": name, **options}``; one that is built already as it is.

    Raises:
        ValueError: no type, an unknown or refused one, or an option that its class refuses.
    """
    if isinstance(given, GeometricAugmentation | PhotometricAugmentation):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            "an augmentation must be a mapping such as {type: rotate, limit: 10}, "
            f"got {shown(given)}"
        )
    options = dict(given)
    name = options.pop("type", None)
    if name is None:
        raise ValueError(f"an augmentation needs a 'type'; known: {', '.join(AUGMENTATIONS)}")
    if not isinstance(name, str):
        raise ValueError(f"type of an augmentation must be a string, got {shown(name)}")
    if name in REFUSED:
        raise ValueError(
            f"augmentation {name!r} is refused: surface normals would be wrong after it"
        )
    AUGMENTATIONS.find(name)
    try:
        return AUGMENTATIONS.make(name, {}, options)
    except ValueError as error:
        raise ValueError(f"augmentation {name!r}: {error}") from None


def name_of(augmentation: Augmentation) -> str:
    """What messages call an augmentation: its name in a config, or that of its class."""
    cls = type(augmentation)
    if cls in AUGMENTATIONS.values():
        return AUGMENTATIONS.name_of(cls)
    return cls.__name__
