"""What every task's metric offers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torchmetrics import Metric

from visionmtl.types import DenseTargets


class TaskMetric(Metric):
    """The metric of one task: ``update(prediction, targets)`` by batch, ``compute`` -> values.

    Attributes:
        headline: key of the main metric, which stands for the task in tables and in delta_m,
            convention A.
        score_key: key of the share in percent, higher is better, that enters the validation score.
        higher_is_better_by_key: the keys that are reported, in order.
        delta_m_keys: keys that enter delta_m, convention B.
    """

    full_state_update: bool = False
    headline: ClassVar[str]
    score_key: ClassVar[str]
    higher_is_better_by_key: ClassVar[dict[str, bool]]
    delta_m_keys: ClassVar[tuple[str, ...]]


def check_probabilities(task: str, prediction: Tensor, targets: DenseTargets) -> None:
    """Raise ``ValueError`` unless ``prediction`` is (B, 1, H, W), for targets (B, H, W)."""
    expected = (len(targets.value), 1, *targets.value.shape[1:])
    if prediction.shape != expected:
        got = tuple(prediction.shape)
        raise ValueError(f"{task}: expected probabilities of shape {expected}, got {got}")
