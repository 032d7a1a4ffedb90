"""A kind of task of one's own: the colour of a surface without light, ``train_own_kind.py``."""

from dataclasses import dataclass

import torch
from torch import Tensor

from visionmtl.data import DenseTargets
from visionmtl.losses import LOSSES, TaskLoss, masked_mean
from visionmtl.metrics import TaskMetric
from visionmtl.models import HEADS, DenseHead
from visionmtl.tasks import KINDS, DenseKind


@HEADS.register("albedo")
class AlbedoHead(DenseHead):
    """Shares of red, green and blue (B, 3, H, W) in 0..1."""

    kinds = ("albedo",)

    def __init__(self, in_channels: int, strides: list[int], *, channels: int = 64) -> None:
        super().__init__(in_channels, strides, 3, channels=channels)

    def forward(self, pyramid: list[Tensor], size: tuple[int, int]) -> Tensor:
        return self.logits(pyramid, size).sigmoid()


@LOSSES.register("albedo_l1")
class AlbedoLoss(TaskLoss):
    """Mean absolute error."""

    kinds = ("albedo",)

    def forward(self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None):
        error = (prediction.float() - targets.value).abs().mean(dim=1)
        return masked_mean(error, targets.valid, counts)


class AlbedoMetric(TaskMetric):
    """Percentage of the valid pixels whose mean absolute error is below 0.1."""

    headline = score_key = "within_0.1"
    higher_is_better_by_key = {"within_0.1": True}
    delta_m_keys = ("within_0.1",)

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        near = (prediction - targets.value).abs().mean(dim=1) < 0.1
        self.sums += torch.stack([(near & targets.valid).sum(), targets.valid.sum()])

    def compute(self) -> dict[str, float]:
        return {"within_0.1": float(100 * self.sums[0] / self.sums[1])}


@KINDS.register("albedo")
@dataclass(frozen=True)
class Albedo(DenseKind):
    """Colour without light, float32 (H, W, 3) in 0..1."""

    head = "albedo"
    loss = "albedo_l1"
    metric = AlbedoMetric
    channels = (3,)
