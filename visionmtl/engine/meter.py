"""Sums of the losses between two records of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class LossMeter:
    """Mean loss and number of annotated samples per task.

    The sums of the losses stay on the device until they are asked for.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self.tasks = list(tasks)
        self._sums = torch.zeros(len(self.tasks), device=device)
        self._steps = [0] * len(self.tasks)
        self._samples = [0] * len(self.tasks)

    def add(self, losses: Tensor, annotated: Sequence[int]) -> None:
        """Add the losses (T,) of a step and on how many of its samples each task is annotated."""
        self._sums += losses
        for t, count in enumerate(annotated):
            self._steps[t] += count > 0
            self._samples[t] += count

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """Mean loss per task, over the steps that had truth for it, and samples per task; then
        start anew.

        A task that no step had truth for has no mean.
        """
        means: dict[str, float] = {}
        for task, total, steps in zip(self.tasks, self._sums.tolist(), self._steps, strict=True):
            if steps:
                means[task] = total / steps
        samples = dict(zip(self.tasks, self._samples, strict=True))
        self._sums.zero_()
        self._steps = [0] * len(self.tasks)
        self._samples = [0] * len(self.tasks)
        return means, samples

    def state_dict(self) -> dict[str, Any]:
        steps = dict(zip(self.tasks, self._steps, strict=True))
        samples = dict(zip(self.tasks, self._samples, strict=True))
        return {"sums": self._sums, "steps": steps, "samples": samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums.copy_(state["sums"])
        self._steps = [state["steps"].get(task, 0) for task in self.tasks]
        self._samples = [state["samples"].get(task, 0) for task in self.tasks]
