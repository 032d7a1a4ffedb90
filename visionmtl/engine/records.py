"""What a trainer records of its state, in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch

from visionmtl.balancing.backward import Balance
from visionmtl.engine.step_parts import StepParts


def loss_record(
    parts: StepParts, optimizer: torch.optim.Optimizer, means: Mapping[str, float]
) -> dict[str, Any]:
    """What is known after a step.

    Args:
        parts: of the step.
        optimizer: has the learning rates.
        means: mean loss per task since the last record.

    Returns:
        ``loss`` per task and ``lr``, the highest rate; ``penalty`` of the sharing if it has one;
        unless the weights are fixed, ``weights`` per task, of its gradient on what is shared in the
        last step; with balancing also ``gradient_record``.
    """
    tasks = [spec.name for spec in parts.model.tasks]
    rates = [group["lr"] for group in optimizer.param_groups]
    record: dict[str, Any] = {"loss": means, "lr": max(rates)}
    with torch.no_grad():
        penalty = parts.model.sharing.penalty()
    if penalty is not None:
        record["penalty"] = float(penalty)
    if parts.balance is None and parts.weighting.fixed:
        return record
    if parts.weights is not None:
        record["weights"] = dict(zip(tasks, parts.weights.tolist(), strict=True))
    if parts.balance is not None:
        record |= gradient_record(parts.balance, tasks)
    return record


def gradient_record(balance: Balance, tasks: Sequence[str]) -> dict[str, Any]:
    """The gradients of the tasks when they were last compared, unweighted.

    Returns:
        ``gradient_norm`` per task, ``gradient_cosine`` per pair ("semseg/depth") and ``conflict``,
        the fraction of the pairs with a negative cosine; without the tasks that the step had no
        truth for.
    """
    gramian = balance.gramian.tolist()
    norms: dict[str, float] = {}
    for t, task in enumerate(tasks):
        if not math.isnan(gramian[t][t]):
            norms[task] = math.sqrt(max(gramian[t][t], 0.0))
    cosines: dict[str, float] = {}
    for i, j in combinations(range(len(tasks)), 2):
        product = norms.get(tasks[i], 0.0) * norms.get(tasks[j], 0.0)
        if product > 0:
            cosines[f"{tasks[i]}/{tasks[j]}"] = gramian[i][j] / product
    record: dict[str, Any] = {"gradient_norm": norms, "gradient_cosine": cosines}
    if cosines:
        record["conflict"] = sum(cosine < 0 for cosine in cosines.values()) / len(cosines)
    return record


def speed_record(images_per_second: float, device: torch.device) -> dict[str, float]:
    """How fast an epoch was; on CUDA also the most memory that the run has taken."""
    record = {"images_per_second": round(images_per_second, 2)}
    if device.type == "cuda":
        record["peak_memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return record
