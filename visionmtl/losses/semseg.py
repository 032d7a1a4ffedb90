"""Loss of semantic segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.losses.reduction import full_precision, masked_mean
from visionmtl.types import DenseTargets


class CrossEntropyLoss(nn.Module):
    """Cross-entropy over the valid pixels of the batch, optionally with a soft Dice term.

    With class weights the mean is torch's: sum of w[y] * loss over sum of w[y].

    Args:
        num_classes: K.
        class_weights: one finite weight >= 0 per class, not all zero.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        dice: factor of ``soft_dice_loss``; 0 leaves it out.

    Raises:
        ValueError: an option outside its range, or a number of weights that is not ``num_classes``.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        dice: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if not 0 <= dice < math.inf:
            raise ValueError(f"dice must be a finite factor >= 0, got {dice}")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.dice = dice
        # Not in the state: the weights are part of the configuration.
        self.register_buffer("class_weights", _checked_weights(class_weights, num_classes), persistent=False)

    def forward(self, prediction: Tensor, targets: DenseTargets) -> Tensor:
        """The loss of logits (B, K, H, W) against class ids (B, H, W); a scalar."""
        valid = targets.valid
        logits = torch.where(valid.unsqueeze(1), full_precision(prediction), 0.0)
        labels = torch.where(valid, targets.value, 0).long()
        loss = self._cross_entropy(logits, labels, valid)
        if self.dice > 0:
            loss = loss + self.dice * soft_dice_loss(logits.softmax(dim=1), labels, valid)
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        assert logits.shape[1] == self.num_classes, f"{logits.shape[1]} logits for {self.num_classes} classes"
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        values = F.cross_entropy(logits, labels, weights, reduction="none", label_smoothing=self.label_smoothing)
        if weights is None:
            return masked_mean(values, valid)
        total = torch.where(valid, weights[labels], 0.0).sum()
        return torch.where(valid, values, 0.0).sum() / torch.where(total > 0, total, 1.0)


def soft_dice_loss(probabilities: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum(p^2) + sum(g^2)), the mean over the classes that occur in the batch.

    Milletari et al., V-Net, 2016, https://arxiv.org/abs/1606.04797, section 3, with its squared denominator; the sums
    run over all valid pixels of the batch, not per image.

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
        raise ValueError(f"class_weights must hold one number per class: {num_classes}, got {len(class_weights)}")
    weights = [float(w) for w in class_weights]
    if not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise ValueError(f"class_weights must be finite, >= 0 and not all zero, got {weights}")
    return torch.tensor(weights)
