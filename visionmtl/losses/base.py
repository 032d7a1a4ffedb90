"""What every loss offers."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from visionmtl._registry import Registry
from visionmtl.losses.reduction import count_valid


class TaskLoss(nn.Module):
    """``(prediction, targets) -> scalar``: a sum of terms "numerator over count".

    The counts are of the targets alone. So a batch can come in parts, as micro-batches or on
    several processes: where each part divides by the counts of the whole batch, which are the sums
    of the parts' own, the losses of the parts add up to the loss of the whole batch. Losses with
    terms of another form say how they differ.

    Attributes:
        num_counts: n, how many counts the loss has.
        kinds: names of the kinds of task that it is for, beside those whose default it is.
    """

    num_counts: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:  # nn.Module would take any options
        super().__init__()

    def prepare(self, targets: Any, size: tuple[int, int]) -> Any:
        """The targets of images (H, W) in the form that ``counts`` and ``forward`` take."""
        return targets

    def counts(self, targets: Any) -> Tensor:
        """The counts float32 (n,) of prepared targets; here the number of valid pixels."""
        return count_valid(targets.valid).view(1)

    def forward(self, prediction: Any, targets: Any, counts: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            prediction: what the head gives.
            targets: as a data loader gives them, or prepared.
            counts: (n,), those of the whole batch of which this is a part; None if this is all of
                it.

        Returns:
            A scalar; 0 with a graph where nothing is valid.
        """
        raise NotImplementedError


LOSSES: Registry[TaskLoss] = Registry("loss")
"""Name in a config -> class; ``num_classes`` and the like come from the task."""
