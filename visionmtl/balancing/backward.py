"""The gradients of all tasks and their balanced sum in ``.grad``.

This module and what it imports from this folder are the one place that knows autograd.

The network is cut at the pyramids, where every task gets leaves of its own. One backward pass of
the sum of the losses then leaves the raw gradient of each head in its parameters and the gradient
of each task at its leaves. What is behind the cut is reached from there, in one of two scopes:

- ``parameters``: a backward pass per task gives its gradient of all shared parameters, a row of the
  jacobian (T, P). The methods are defined so. Parameters of the trunk that only one task reads keep
  their raw gradient.
- ``features``: the gradients at the shared pyramid are balanced, as if the maps were the
  parameters; one backward pass of their weighted sum goes through the trunk, all of it. For hard
  sharing, where all tasks read the same maps.

Gradients of micro-batches and processes are summed before they are balanced, once per optimiser
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from visionmtl.balancing.base import GradientBalancer
from visionmtl.balancing.cut_gradients import CutGradients
from visionmtl.balancing.jacobian_gradients import JacobianGradients
from visionmtl.balancing.partition import Partition, Pyramids, SumInPlace
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing.hard import HardSharing
from visionmtl.weighting.rows import present_rows

Scope = Literal["parameters", "features"]


class TaskGradients(Protocol):
    """The task gradients of one optimiser step.

    ``add`` every micro-batch, then ask for the ``gramian``, then ``write``.
    """

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        """Take a micro-batch whose losses have gone backward to the ``leaves``.

        Args:
            pyramids: the maps, with their graph.
            leaves: what ``cut`` made of them.
            annotated: per task, whether this micro-batch has truth for it.
        """

    def gramian(self) -> Tensor | None:
        """(R, R) of the R present tasks over all micro-batches and processes; None if not due.

        It is at least float32.
        """

    def write(self, shared: Tensor, own: Tensor) -> None:
        """Put the gradient of the step into ``.grad`` and free what led to it.

        Args:
            shared: (T,) weights of the gradients of what is shared.
            own: (T,) weights of the gradients of what is not.
        """


class Balance(nn.Module):
    """A balancer, where it acts, and what is remembered between steps.

    Args:
        balancer: Gramian -> weights.
        model: the network.
        scope: where the gradients are balanced.
        every: how many steps keep their weights.
        sum_: over the processes.

    Attributes:
        weights: (T,) the balancer's last ones; 1 for a task that it has not met.
        gramian: (T, T) of the last raw gradients; nan for a task that the step had no truth for.

    Raises:
        ValueError: no parameter is shared, or ``features`` without hard sharing.
    """

    weights: Tensor
    gramian: Tensor

    def __init__(
        self,
        balancer: GradientBalancer,
        model: MultiTaskModel,
        scope: Scope,
        every: int,
        sum_: SumInPlace,
    ) -> None:
        super().__init__()
        self.balancer = balancer
        self.scope = scope
        self.every = every
        self._sum = sum_
        self.partition = Partition(model)
        scheme = type(model.sharing).__name__
        if not self.partition.shared:
            needs = "balancing needs trainable parameters that tasks share"
            raise ValueError(f"{needs}; with {scheme} there are none")
        if scope == "features" and not isinstance(model.sharing, HardSharing):
            needs = "needs maps that all tasks read, which only hard sharing has"
            raise ValueError(
                f"balancing.scope features {needs}, not {scheme}; use scope parameters"
            )
        num_tasks = len(self.partition.tasks)
        first = self.partition.shared[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self.register_buffer("weights", torch.ones(num_tasks, dtype=dtype, device=first.device))
        self.register_buffer("gramian", self.weights.new_full((num_tasks, num_tasks), torch.nan))

    def start(self, present: Sequence[bool], step: int) -> TaskGradients:
        """What collects the gradients of a step; there is a Gramian if it is due.

        Args:
            present: per task, whether the step has truth for it.
            step: how many steps are finished.
        """
        due = step % self.every == 0 and any(present)
        if due and self.scope == "parameters":
            return JacobianGradients(self.partition, present, self._sum)
        whole_trunk = self.scope == "features"
        return CutGradients(self.partition, present, self._sum, whole_trunk, due)

    def update(
        self,
        gramian: Tensor,
        loss_weights: Tensor,
        present: Sequence[bool],
        generator: torch.Generator,
    ) -> None:
        """New ``weights`` of the present tasks, from the gradients of their weighted losses.

        Args:
            gramian: (R, R), of the raw gradients.
            loss_weights: (T,).
            present: R of them are True.
            generator: of the balancer's random choices.
        """
        nothing = torch.full_like(self.gramian, torch.nan)
        columns = _spread(gramian, present, nothing[:, : len(gramian)])
        self.gramian.copy_(_spread(columns.T, present, nothing))
        scale = present_rows(loss_weights, present).to(gramian.dtype)
        tasks = [t for t, here in enumerate(present) if here]
        weights = self.balancer(scale[:, None] * gramian * scale, generator, tasks)
        self.weights.copy_(_spread(weights.to(self.weights.dtype), present, self.weights))


def _spread(rows: Tensor, present: Sequence[bool], rest: Tensor) -> Tensor:
    """``rest`` (T, ...) with ``rows`` (P, ...) in the places of the present tasks."""
    found = iter(rows.unbind())
    spread = []
    for here, other in zip(present, rest.unbind(), strict=True):
        spread.append(next(found) if here else other)
    return torch.stack(spread)
