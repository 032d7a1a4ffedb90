"""The gradients of all tasks and their balanced sum in ``.grad``: the one place here that knows
autograd.

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

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from visionmtl.balancing.base import GradientBalancer
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import HardSharing
from visionmtl.types import Pyramid
from visionmtl.weighting.rows import present_rows

Pyramids = Mapping[str, Pyramid]
SumInPlace = Callable[[Sequence[Tensor]], None]
"""Sums tensors over all processes."""
Scope = Literal["parameters", "features"]


def cut(pyramids: Pyramids) -> dict[str, Pyramid]:
    """Leaves with the values of the maps; a map that several tasks read has one for each of
    them.
    """
    return {
        task: [x.detach().requires_grad_() for x in pyramid] for task, pyramid in pyramids.items()
    }


class Partition:
    """The trainable parameters of a network by who reaches them.

    Attributes:
        tasks: names, in task order.
        shared: those that at least two tasks reach; P numbers.
        trunk: per task, what it reaches of the trunk, shared or not.
        own: per task, what only it reaches of the trunk.
        heads: per task.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self.tasks = [spec.name for spec in model.tasks]
        self.shared = _trainable(model.shared_parameters())
        self.trunk = [_trainable(model.sharing.parameters_reaching(task)) for task in self.tasks]
        ends = torch.tensor([0, *(p.numel() for p in self.shared)]).cumsum(0).tolist()
        self.size: int = ends[-1]
        self.offsets: dict[int, int] = dict(zip(map(id, self.shared), ends, strict=False))
        self.own = [
            [p for p in parameters if id(p) not in self.offsets] for parameters in self.trunk
        ]
        self.heads = [_trainable(model.heads[task].parameters()) for task in self.tasks]


class TaskGradients(Protocol):
    """The task gradients of one optimiser step: ``add`` every micro-batch, then ``gramian``, then
    ``write``.
    """

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        """Take a micro-batch whose losses have gone backward to the ``leaves``.

        Args:
            pyramids: the maps, with their graph.
            leaves: what ``cut`` made of them.
            annotated: per task, whether this micro-batch has truth for it.
        """

    def gramian(self) -> Tensor | None:
        """(R, R) of the R present tasks, at least float32, over all micro-batches and processes;
        None if not due.
        """

    def write(self, shared: Tensor, own: Tensor) -> None:
        """Put the gradient of the step into ``.grad`` and free what led to it.

        Args:
            shared: (T,) weights of the gradients of what is shared.
            own: (T,) weights of the gradients of what is not.
        """


class CutGradients:
    """The gradients at the cut; the graphs of all micro-batches are kept until ``write``.

    Args:
        partition: of the network.
        present: per task, whether the step has truth for it.
        sum_: over the processes.
        scope: ``features``: the whole trunk has the weights of what is shared; ``parameters``: only
            shared parameters.
        with_gramian: whether there is to be a Gramian.
    """

    def __init__(
        self,
        partition: Partition,
        present: Sequence[bool],
        sum_: SumInPlace,
        scope: Scope,
        with_gramian: bool,
    ) -> None:
        self._partition, self._sum = partition, sum_
        self._names = [task for task, here in zip(partition.tasks, present, strict=True) if here]
        self._own = [p for own in partition.own for p in own] if scope == "parameters" else []
        self._with_gramian = with_gramian
        self._gramians: list[Tensor] = []
        self._cuts: list[list[tuple[int, Tensor, Tensor]]] = []

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        if self._with_gramian:
            levels = zip(
                *(leaves[task] for task in self._names), strict=True
            )  # per map, the leaf of each task
            self._gramians += [gramian for maps in levels for gramian in _dots(maps)]
        tasks = enumerate(self._partition.tasks)
        self._cuts.append(
            [(t, x, g) for t, task in tasks for x, g in _read(pyramids[task], leaves[task])]
        )

    def gramian(self) -> Tensor | None:
        if not self._with_gramian:
            return None
        gramian = torch.stack(self._gramians).sum(0)
        self._sum([gramian])
        return gramian

    def write(self, shared: Tensor, own: Tensor) -> None:
        while self._cuts:
            entries = self._cuts.pop(0)
            if self._own:
                torch.autograd.backward(
                    *_weighted(entries, own), retain_graph=True, inputs=self._own
                )
            inputs = self._partition.shared if self._own else None
            torch.autograd.backward(*_weighted(entries, shared), inputs=inputs)
        _scale(self._partition.heads, own)
        everything = [*_flat(self._partition.trunk), *_flat(self._partition.heads)]
        self._sum([p.grad for p in dict.fromkeys(everything) if p.grad is not None])


class JacobianGradients:
    """The gradients of the shared parameters, one backward pass per task and micro-batch.

    Args:
        partition: of the network.
        present: per task, whether the step has truth for it; one at least.
        sum_: over the processes.
    """

    def __init__(self, partition: Partition, present: Sequence[bool], sum_: SumInPlace) -> None:
        self._partition, self._present, self._sum = partition, present, sum_
        first = partition.shared[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self._jacobian: Tensor | None = torch.zeros(
            sum(present), partition.size, dtype=dtype, device=first.device
        )

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        rows = [t for t, here in enumerate(annotated) if here]
        for t in rows:
            task = self._partition.tasks[t]
            maps, outputs = zip(*_read(pyramids[task], leaves[task]), strict=True)
            assert self._jacobian is not None
            row = self._jacobian[sum(self._present[:t])]
            for p in self._partition.shared:
                p.grad = self._as(p, row)  # autograd adds to it in place: no second copy of the row
            torch.autograd.backward(
                maps, outputs, retain_graph=t != rows[-1], inputs=self._partition.trunk[t]
            )
        for p in self._partition.shared:
            p.grad = None

    def _as(self, parameter: Tensor, vector: Tensor) -> Tensor:
        """The entries (P,) of a parameter, in its own memory format."""
        offset = vector.storage_offset() + self._partition.offsets[id(parameter)]
        return torch.as_strided(vector, parameter.size(), parameter.stride(), offset)

    def gramian(self) -> Tensor:
        assert self._jacobian is not None
        self._sum([self._jacobian])
        return self._jacobian @ self._jacobian.T

    def write(self, shared: Tensor, own: Tensor) -> None:
        assert self._jacobian is not None
        vector = present_rows(shared, self._present).to(self._jacobian.dtype) @ self._jacobian
        self._jacobian = None
        for p in self._partition.shared:
            p.grad = self._as(p, vector).to(p.dtype)
        for p in _flat(self._partition.own):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        apart = [[*a, *b] for a, b in zip(self._partition.own, self._partition.heads, strict=True)]
        _scale(apart, own)
        self._sum([p.grad for p in _flat(apart) if p.grad is not None])


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
        self.balancer, self.scope, self.every, self._sum = balancer, scope, every, sum_
        self.partition = Partition(model)
        kind = type(model.sharing).__name__
        if not self.partition.shared:
            raise ValueError(
                f"balancing needs trainable parameters that tasks share; with {kind} there are none"
            )
        if scope == "features" and not isinstance(model.sharing, HardSharing):
            raise ValueError(
                f"balancing.scope features needs maps that all tasks read, which only hard sharing has, not {kind}; "
                "use scope parameters"
            )
        num_tasks, first = len(self.partition.tasks), self.partition.shared[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self.register_buffer("weights", torch.ones(num_tasks, dtype=dtype, device=first.device))
        self.register_buffer("gramian", self.weights.new_full((num_tasks, num_tasks), torch.nan))

    def start(self, present: Sequence[bool], step: int) -> TaskGradients:
        """What collects the gradients of the step after ``step`` finished ones; there is a Gramian
        if it is due.
        """
        due = step % self.every == 0 and any(present)
        if due and self.scope == "parameters":
            return JacobianGradients(self.partition, present, self._sum)
        return CutGradients(self.partition, present, self._sum, self.scope, due)

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


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


def _flat(parts: Iterable[Iterable[nn.Parameter]]) -> list[nn.Parameter]:
    return [p for part in parts for p in part]


def _read(maps: Pyramid, leaves: Pyramid) -> list[tuple[Tensor, Tensor]]:
    """The maps that a head read, and its gradient there."""
    return [(x, leaf.grad) for x, leaf in zip(maps, leaves, strict=True) if leaf.grad is not None]


def _weighted(
    entries: Iterable[tuple[int, Tensor, Tensor]], weights: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The maps, each once, and the weighted sum of the gradients that tasks have there, rounded to
    bfloat16 only once.

    Args:
        entries: task, map, and the gradient of the task at the map.
        weights: (T,).
    """
    sums: dict[Tensor, Tensor] = {}
    for t, x, g in entries:
        term = weights[t] * g.to(torch.promote_types(g.dtype, torch.float32))
        sums[x] = sums[x] + term if x in sums else term
    return list(sums), [total.to(x.dtype) for x, total in sums.items()]


def _dots(leaves: Sequence[Tensor]) -> list[Tensor]:
    """The Gramian (R, R) of R tasks at one map, from their leaves; empty if no head reads it."""
    if all(leaf.grad is None for leaf in leaves):
        return []
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    dtype = torch.promote_types(gradients[0].dtype, torch.float32)
    rows = torch.stack([g.flatten().to(dtype) for g in gradients])
    return [rows @ rows.T]


def _spread(rows: Tensor, present: Sequence[bool], rest: Tensor) -> Tensor:
    """The inverse of ``present_rows``: (T, ...) with ``rest`` (T, ...) where a task is not
    present.
    """
    found = iter(rows.unbind())
    return torch.stack(
        [next(found) if here else other for here, other in zip(present, rest.unbind(), strict=True)]
    )


def _scale(parts: Sequence[Sequence[nn.Parameter]], factors: Tensor) -> None:
    """Multiply the gradients of each part by its factor (T,)."""
    for parameters, factor in zip(parts, factors.unbind(), strict=True):
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
