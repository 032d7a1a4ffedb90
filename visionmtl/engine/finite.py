"""Losses that are not finite are found and named without a host sync in the step."""

from __future__ import annotations

from collections.abc import Sequence

import math

import torch
from torch import Tensor

from visionmtl.engine.errors import NonFiniteLossError


class FiniteCheck:
    """Looks at the losses of every step.

    On the CPU, and with ``immediate``, the check is done at once. On CUDA the losses are copied asynchronously and
    looked at one step later: the run still stops, and no checkpoint is written before ``flush`` has passed.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device, immediate: bool) -> None:
        self.tasks = list(tasks)
        self.delayed = device.type == "cuda" and not immediate
        self._pending: tuple[Tensor, torch.cuda.Event, int, list[str]] | None = None

    def check(self, losses: Tensor, step: int, sample_ids: list[str]) -> None:
        """Raise ``NonFiniteLossError`` for these losses, or, on CUDA, for those of the step before."""
        self.flush()
        if self.delayed:
            host = torch.empty(losses.shape, pin_memory=True).copy_(losses.detach(), non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._pending = (host, event, step, sample_ids)
        else:
            self._raise_if_bad(losses, step, sample_ids)

    def flush(self) -> None:
        """Check what is still under way."""
        if self._pending is not None:
            host, event, step, sample_ids = self._pending
            self._pending = None
            event.synchronize()
            self._raise_if_bad(host, step, sample_ids)

    def _raise_if_bad(self, losses: Tensor, step: int, sample_ids: list[str]) -> None:
        values = losses.detach().tolist()
        bad = [f"{task} ({v})" for task, v in zip(self.tasks, values, strict=True) if not math.isfinite(v)]
        if bad:
            samples = ", ".join(sample_ids)
            raise NonFiniteLossError(f"step {step}: loss of {', '.join(bad)} is not finite; samples: {samples}")
