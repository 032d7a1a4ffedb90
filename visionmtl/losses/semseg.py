"""Loss of semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from visionmtl._options import NonNegative
from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.reduction import count_valid, divide, full_precision, masked_mean
from visionmtl.types import DenseTargets


@LOSSES.register("cross_entropy")
class CrossEntropyLoss(TaskLoss):
    """Cross-entropy over the valid pixels of the batch, optionally with a soft Dice term.

    Where an annotation speaks of some classes only (``known``), the softmax runs over these:
    nothing is learnt about the others, which may well be there under another name.

    With class weights the mean is torch's: sum of w[y] * loss over sum of w[y]. The Dice term of a
    batch that comes in parts is the mean of theirs, weighted by their shares of the valid pixels.

    Args:
        num_classes: K.
        class_weights: one finite weight >= 0 per class, not all zero.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        dice: factor of ``soft_dice_loss``; 0 leaves it out.

    Raises:
        ValueError: a number of weights that is not ``num_classes``, or all of them zero.
    """

    kinds: ClassVar[tuple[str, ...]] = ("semseg",)

    class_weights: Tensor | None
    num_counts = 2

    def __init__(
        self,
        num_classes: int,
        *,
        class_weights: Sequence[NonNegative] | None = None,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        dice: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.dice = dice
        # Not in the state: the weights are part of the configuration.
        self.register_buffer(
            "class_weights", _checked_weights(class_weights, num_classes), persistent=False
        )

    def counts(self, targets: DenseTargets) -> Tensor:
        """The sum of w[y] over the valid pixels, and their number."""
        pixels = count_valid(targets.valid)
        if self.class_weights is None:
            return torch.stack([pixels, pixels])
        weights = torch.where(targets.valid, self.class_weights.float()[_labels(targets)], 0.0)
        return torch.stack([weights.sum(), pixels])

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        """The loss of logits (B, K, H, W) against class ids (B, H, W); a scalar."""
        num_logits = prediction.shape[1]
        assert num_logits == self.num_classes, f"{num_logits} logits for {self.num_classes} classes"
        if counts is None:
            counts = self.counts(targets)
        total, pixels = counts
        valid = targets.valid
        labels = _labels(targets)
        logits = torch.where(valid.unsqueeze(1), full_precision(prediction), 0.0)
        if targets.known is not None:
            if self.label_smoothing > 0:
                raise ValueError(
                    "label_smoothing must be 0 where data sets with different classes share a head"
                )
            open_ = targets.known[..., None, None] | ~valid.unsqueeze(1)
            logits = torch.where(open_, logits, -torch.inf)
        weights = self.class_weights
        if weights is not None:
            weights = weights.to(logits.dtype)
        values = F.cross_entropy(
            logits, labels, weights, reduction="none", label_smoothing=self.label_smoothing
        )
        loss = divide(torch.where(valid, values, 0.0).sum(), total)
        if self.dice > 0:
            share = divide(count_valid(valid), pixels)
            loss = loss + self.dice * share * soft_dice_loss(logits.softmax(dim=1), labels, valid)
        return loss


def _labels(targets: DenseTargets) -> Tensor:
    """Class ids int64 (B, H, W), 0 where invalid."""
    return torch.where(targets.valid, targets.value, 0).long()


def soft_dice_loss(probabilities: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum(p^2) + sum(g^2)), the mean over the classes that occur in the batch.

    Milletari et al., V-Net, 2016, https://arxiv.org/abs/1606.04797, section 3, with its squared
    denominator; the sums run over all valid pixels of the batch, not per image.

    Args:
        probabilities: (B, K, H, W) in 0..1.
        labels: int64 (B, H, W).
        valid: bool (B, H, W).

    Returns:
        A scalar in 0..1; 0 where no pixel is valid.
    """
    classes = torch.arange(probabilities.shape[1], device=labels.device).view(-1, 1, 1)
    valid = valid.unsqueeze(1)
    truth = (labels.unsqueeze(1) == classes) & valid
    over = (0, 2, 3)
    overlap = torch.where(truth, probabilities, 0.0).sum(over)
    predicted = torch.where(valid, probabilities, 0.0).square().sum(over)
    area = truth.sum(over)
    return masked_mean(1 - 2 * overlap / (predicted + area.clamp(min=1)), area > 0)


def _checked_weights(class_weights: Sequence[float] | None, num_classes: int) -> Tensor | None:
    if class_weights is None:
        return None
    if len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights must hold one number per class: {num_classes}, got {len(class_weights)}"
        )
    if not any(class_weights):
        raise ValueError(f"class_weights must not be all zero, got {list(class_weights)}")
    return torch.tensor([float(weight) for weight in class_weights])
