"""Data: sources of samples, the transforms that all targets follow, and loaders.

>>> dataset = RoomsDataset(4, size=(64, 80), tasks=["semseg", "depth"])
>>> transform = build_transform(dataset.tasks, [])
>>> loader, sampler = make_loader(dataset, dataset.tasks, transform, batch_size=2, train=False)
>>> batch = next(iter(loader))
>>> batch.images.shape, batch.annotated
(torch.Size([2, 3, 64, 80]), {'semseg': 2, 'depth': 2})
"""

from visionmtl.data.base import DATASETS
from visionmtl.data.cache import CachedDataset
from visionmtl.data.folder import FolderDataset
from visionmtl.data.loader import make_loader
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.subset import Subset
from visionmtl.data.transforms.base import (
    AUGMENTATIONS,
    GeometricAugmentation,
    PhotometricAugmentation,
)
from visionmtl.data.transforms.joint import build_transform
from visionmtl.types import BoxTarget, DenseTarget, DenseTargets, Sample

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "BoxTarget",
    "CachedDataset",
    "DenseTarget",
    "DenseTargets",
    "FolderDataset",
    "GeometricAugmentation",
    "MixtureDataset",
    "PhotometricAugmentation",
    "RoomsDataset",
    "Sample",
    "Subset",
    "build_transform",
    "make_loader",
]
