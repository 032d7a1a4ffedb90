"""Sums of the losses between two lines of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class LossMeter:
    """Mean loss and number of annotated samples per task; the sums stay on the device until they
    are asked for.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self.tasks = list(tasks)
        self._sums = torch.zeros(len(self.tasks), device=device)
        self._steps: Counter[str] = Counter()
        self._samples: Counter[str] = Counter()

    def add(self, losses: Tensor, annotated: Mapping[str, int]) -> None:
        """Add the losses (T,) of a step and on how many of its samples each task is annotated."""
        self._sums += losses
        self._steps.update({task: int(count > 0) for task, count in annotated.items()})
        self._samples.update(annotated)

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """Mean loss per task, over the steps that had truth for it, and samples per task; then
        start anew.

        A task that no step had truth for has no mean.
        """
        sums = zip(self.tasks, self._sums.tolist(), strict=True)
        means = {task: total / self._steps[task] for task, total in sums if self._steps[task]}
        samples = {task: self._samples[task] for task in self.tasks}
        self._sums.zero_()
        self._steps.clear()
        self._samples.clear()
        return means, samples

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "steps": dict(self._steps), "samples": dict(self._samples)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums.copy_(state["sums"])
        self._steps, self._samples = Counter(state["steps"]), Counter(state["samples"])
