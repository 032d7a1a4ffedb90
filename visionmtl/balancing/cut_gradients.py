"""The task gradients of a step at the cut between trunk and heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import torch
from torch import Tensor

from visionmtl.balancing.partition import (
    Partition,
    Pyramids,
    SumInPlace,
    gradients_at,
    gradients_of,
    scale_gradients,
)

Entry = tuple[int, Tensor, Tensor]
"""A task, a map that it reads, and the gradient of its loss there."""


class CutGradients:
    """``TaskGradients`` at the cut; the graphs of all micro-batches are kept until ``write``.

    Args:
        partition: of the network.
        present: per task, whether the step has truth for it.
        sum_: over the processes.
        whole_trunk: whether the weights of what is shared hold for the whole trunk; otherwise what
            a task has of its own there keeps the other weights.
        with_gramian: whether there is to be a Gramian.
    """

    def __init__(
        self,
        partition: Partition,
        present: Sequence[bool],
        sum_: SumInPlace,
        whole_trunk: bool,
        with_gramian: bool,
    ) -> None:
        self._partition = partition
        self._sum = sum_
        self._present = list(compress(partition.tasks, present))
        self._own = []
        if not whole_trunk:
            for own in partition.own:
                self._own += own
        self._with_gramian = with_gramian
        self._gramians: list[Tensor] = []
        self._cuts: list[list[Entry]] = []

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        if self._with_gramian:
            by_task = [leaves[task] for task in self._present]
            for leaves_of_map in zip(*by_task, strict=True):
                self._gramians += _dots(leaves_of_map)
        entries: list[Entry] = []
        for t, task in enumerate(self._partition.tasks):
            for x, gradient in gradients_at(pyramids[task], leaves[task]):
                entries.append((t, x, gradient))
        self._cuts.append(entries)

    def gramian(self) -> Tensor | None:
        if not self._with_gramian:
            return None
        gramian = torch.stack(self._gramians).sum(0)
        self._sum([gramian])
        return gramian

    def write(self, shared: Tensor, own: Tensor) -> None:
        while self._cuts:
            entries = self._cuts.pop(0)
            inputs = None
            if self._own:
                maps, gradients = weighted(entries, own)
                torch.autograd.backward(maps, gradients, retain_graph=True, inputs=self._own)
                inputs = self._partition.shared
            maps, gradients = weighted(entries, shared)
            torch.autograd.backward(maps, gradients, inputs=inputs)
            del entries, maps, gradients  # the graph, before the next one goes backward
        scale_gradients(self._partition.heads, own)
        self._sum(gradients_of([*self._partition.trunk, *self._partition.heads]))


def weighted(entries: Iterable[Entry], weights: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The maps, each once, and the weighted sum of the gradients that tasks have there.

    The sums are in at least float32 and rounded to bfloat16 only once.

    Args:
        entries: of a micro-batch.
        weights: (T,).
    """
    sums: dict[Tensor, Tensor] = {}
    for t, x, gradient in entries:
        term = weights[t] * gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        if x in sums:
            term = sums[x] + term
        sums[x] = term
    return list(sums), [total.to(x.dtype) for x, total in sums.items()]


def _dots(leaves: Sequence[Tensor]) -> list[Tensor]:
    """The Gramian (R, R) of R tasks at one map, from their leaves; empty if no head reads it."""
    if all(leaf.grad is None for leaf in leaves):
        return []
    rows = []
    for leaf in leaves:
        gradient = leaf.grad
        if gradient is None:
            gradient = torch.zeros_like(leaf)
        rows.append(gradient.flatten().to(torch.promote_types(gradient.dtype, torch.float32)))
    jacobian = torch.stack(rows)
    return [jacobian @ jacobian.T]
