"""Losses and gradients that are not finite are found and named."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from visionmtl._errors import NonFiniteLossError


@dataclass
class _Pending:
    """Numbers on their way to the host."""

    values: Tensor
    arrived: torch.cuda.Event
    names: Sequence[str]
    step: int
    sample_ids: Sequence[str]


class FiniteCheck:
    """Looks at the losses and the gradient norm of every step.

    On the CPU, and with ``immediate``, the check is done at once. On CUDA the numbers are copied
    asynchronously and looked at in the next step: the run still stops, and no checkpoint is written
    before ``flush`` has passed.

    Every method raises ``NonFiniteLossError``, for its own numbers or for those of the step before.

    Args:
        tasks: names, in task order.
        device: where the numbers are.
        immediate: never put a check off.
        gather: a value -> those of all processes, which have the same numbers but other samples.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        device: torch.device,
        immediate: bool,
        gather: Callable[[Sequence[str]], list[Sequence[str]]] = lambda names: [names],
    ) -> None:
        self._tasks = list(tasks)
        self._gather = gather
        self._delayed = device.type == "cuda" and not immediate
        self._pending: deque[_Pending] = deque()

    def check_losses(self, losses: Tensor, step: int, sample_ids: Sequence[str]) -> None:
        """Check the losses (T,) of a micro-batch."""
        names = [f"loss of {task}" for task in self._tasks]
        self._check(losses.detach(), names, step, sample_ids)

    def check_gramian(
        self, diagonal: Tensor, present: Sequence[bool], step: int, sample_ids: Sequence[str]
    ) -> None:
        """Check the squared norms (R,) of the gradients of the R present tasks."""
        names = []
        for task, here in zip(self._tasks, present, strict=True):
            if here:
                names.append(f"gradient of {task}")
        self._check(diagonal.detach(), names, step, sample_ids)

    def check_gradient(self, norm: Tensor, step: int, sample_ids: Sequence[str]) -> None:
        """Check the norm, a scalar, of the whole gradient."""
        self._check(norm.detach().view(1), ["gradient norm"], step, sample_ids)

    def flush(self) -> None:
        """Check what is still under way."""
        while self._pending:
            self._check_first()

    def _check(
        self, values: Tensor, names: Sequence[str], step: int, sample_ids: Sequence[str]
    ) -> None:
        while self._pending and self._pending[0].step < step:
            self._check_first()
        if self._delayed:
            self._pending.append(_Pending(*_to_host(values), names, step, sample_ids))
        else:
            self._raise_if_bad(values, names, step, sample_ids)

    def _check_first(self) -> None:
        first = self._pending.popleft()
        first.arrived.synchronize()
        self._raise_if_bad(first.values, first.names, first.step, first.sample_ids)

    def _raise_if_bad(
        self, values: Tensor, names: Sequence[str], step: int, sample_ids: Sequence[str]
    ) -> None:
        bad = []
        for name, value in zip(names, values.tolist(), strict=True):
            if not math.isfinite(value):
                bad.append(f"{name} is {value}")
        if bad:
            samples = ", ".join(chain.from_iterable(self._gather(sample_ids)))
            raise NonFiniteLossError(f"step {step}: {', '.join(bad)}; samples: {samples}")


def _to_host(values: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """A copy that is under way, and the event of its arrival."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event
