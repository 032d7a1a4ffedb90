"""What a trainer reports of its state, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from visionmtl.engine.step import StepParts
from visionmtl.types import TaskSpec


def losses_text(means: Mapping[str, float]) -> str:
    """Losses in a line."""
    return "  ".join(f"{task} {value:.3f}" for task, value in means.items())


def headline(spec: TaskSpec, values: Mapping[str, Any]) -> str:
    """The main metric of a task, from its results."""
    key = spec.kind.metric.headline
    return f"{spec.name} {key} {values[key]:.3f}"


def gradient_record(parts: StepParts, tasks: Sequence[str]) -> dict[str, Any]:
    """How the last step weighed the tasks, and what their gradients were when they were last
    compared.

    Returns:
        ``weights`` per task, of its gradient on what is shared. With balancing also
        ``gradient_norm`` per task, ``gradient_cosine`` per pair ("semseg/depth") and ``conflict``,
        the share of the pairs with a negative cosine, all of the unweighted gradients, without the
        tasks that the step had no truth for.
    """
    record: dict[str, Any] = {}
    if parts.weights is not None:
        record["weights"] = dict(zip(tasks, parts.weights.tolist(), strict=True))
    if parts.balance is None:
        return record
    gramian = parts.balance.gramian.tolist()
    norms = {
        t: math.sqrt(max(gramian[t][t], 0.0))
        for t in range(len(tasks))
        if not math.isnan(gramian[t][t])
    }
    cosines = {
        f"{tasks[i]}/{tasks[j]}": gramian[i][j] / (norms[i] * norms[j])
        for i, j in combinations(norms, 2)
        if norms[i] * norms[j] > 0
    }
    record["gradient_norm"] = {tasks[t]: norm for t, norm in norms.items()}
    record["gradient_cosine"] = cosines
    if cosines:
        record["conflict"] = sum(cosine < 0 for cosine in cosines.values()) / len(cosines)
    return record
