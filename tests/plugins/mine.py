"""A user's own parts, one of each kind, registered without an edit of the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from visionmtl._options import Fraction, NonNegative, Positive
from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.data.base import DATASETS
from visionmtl.data.transforms.base import AUGMENTATIONS, GeometricAugmentation
from visionmtl.losses.base import LOSSES
from visionmtl.losses.depth import DepthL1Loss
from visionmtl.models.decoders.base import DECODERS
from visionmtl.models.decoders.fpn import FPN
from visionmtl.models.heads.base import HEADS
from visionmtl.models.heads.depth import DepthHead
from visionmtl.tasks.depth import Depth
from visionmtl.types import KINDS, DenseTarget, Sample, TaskSpec
from visionmtl.weighting.base import WEIGHTINGS, LossWeighting

USED: Counter[str] = Counter()
"""How often each part did its work."""


@KINDS.register("distance")
@dataclass(frozen=True)
class Distance(Depth):
    """How far away things are."""

    head: ClassVar[str] = "my_head"
    loss: ClassVar[str] = "my_loss"


@HEADS.register("my_head")
class MyHead(DepthHead):
    """A head with an option of its own."""

    kinds: ClassVar[tuple[str, ...]] = ("distance",)

    def __init__(
        self, in_channels: int, strides: Sequence[int], max_depth: float, *, floor: Positive = 0.01
    ) -> None:
        super().__init__(in_channels, strides, max_depth, channels=8)
        self.floor = floor

    def forward(self, pyramid: list[Tensor], size: tuple[int, int]) -> Tensor:
        USED["head"] += 1
        return super().forward(pyramid, size).clamp(min=self.floor)


@LOSSES.register("my_loss")
class MyLoss(DepthL1Loss):
    """The mean absolute error times a factor."""

    kinds: ClassVar[tuple[str, ...]] = ("distance",)

    def __init__(self, *, factor: Positive = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, prediction: Any, targets: Any, counts: Tensor | None = None) -> Tensor:
        USED["loss"] += 1
        return self.factor * super().forward(prediction, targets, counts)


@DECODERS.register("my_decoder")
class MyDecoder(FPN):
    """A narrow FPN."""

    def __init__(self, in_channels: Sequence[int], *, width: int = 8) -> None:
        super().__init__(in_channels, channels=width)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        USED["decoder"] += 1
        return super().forward(pyramid)


@WEIGHTINGS.register("my_weighting")
class MyWeighting(LossWeighting):
    """The first task counts more than the others."""

    def __init__(self, num_tasks: int, *, first: NonNegative = 1.0) -> None:
        super().__init__(num_tasks)
        self.first = first

    def forward(self, losses: Tensor, present: Sequence[bool], generator: Any = None) -> Tensor:
        USED["weighting"] += 1
        return losses.sum() + (self.first - 1) * losses[0]


@BALANCERS.register("my_balancer")
class MyBalancer(GradientBalancer):
    """Equal weights of a given sum."""

    def __init__(self, *, share: Fraction = 0.5) -> None:
        super().__init__()
        self.share = share

    def forward(self, gramian: Tensor, generator: Any = None, tasks: Any = None) -> Tensor:
        USED["balancer"] += 1
        return torch.full_like(gramian[0], self.share)


@AUGMENTATIONS.register("my_augmentation")
@dataclass(frozen=True, kw_only=True)
class MyAugmentation(GeometricAugmentation):
    """Leaves everything as it is."""

    strength: Fraction = 0.1

    def move(self, view: Any, rng: np.random.Generator, zoom: Any) -> Any:
        USED["augmentation"] += 1
        return view


@dataclass(frozen=True)
class MySplit:
    """How many samples a split has."""

    samples: int = 4


@DATASETS.register("my_data")
class MyData:
    """Grey pictures of a wall, with classes and distances."""

    split_types: ClassVar[Mapping[str, type]] = {"train": MySplit, "val": MySplit}

    def __init__(
        self, split: MySplit, tasks: Sequence[str] | None = None, *, distance: Positive = 2.0
    ) -> None:
        known = [TaskSpec.semseg(["wall", "floor"]), TaskSpec.distance(5.0)]
        self.tasks = [spec for spec in known if tasks is None or spec.name in tasks]
        self.samples = split.samples
        self.distance = distance

    def __len__(self) -> int:
        return self.samples

    def sample_id(self, index: int) -> str:
        return f"wall-{index}"

    def __getitem__(self, index: int) -> Sample:
        USED["data set"] += 1
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        valid = np.ones((64, 64), bool)
        classes = (image[..., 0] > 127).astype(np.uint8)
        metres = np.full((64, 64), self.distance, np.float32)
        targets = {
            "semseg": DenseTarget(classes, valid),
            "distance": DenseTarget(metres, valid.copy()),
        }
        wanted = {spec.name: targets[spec.name] for spec in self.tasks}
        return Sample(image, dict(wanted), self.sample_id(index))
