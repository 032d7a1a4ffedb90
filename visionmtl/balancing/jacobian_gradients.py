"""The task gradients of a step by the shared parameters."""

from __future__ import annotations

from collections.abc import Sequence

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
from visionmtl.weighting.rows import present_rows


class JacobianGradients:
    """``TaskGradients`` of the shared parameters: a backward pass per task and micro-batch.

    Args:
        partition: of the network.
        present: per task, whether the step has truth for it; one at least.
        sum_: over the processes.
    """

    def __init__(self, partition: Partition, present: Sequence[bool], sum_: SumInPlace) -> None:
        self._partition = partition
        self._present = present
        self._sum = sum_
        first = partition.shared[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self._jacobian: Tensor | None = torch.zeros(
            sum(present), partition.size, dtype=dtype, device=first.device
        )

    def add(self, pyramids: Pyramids, leaves: Pyramids, annotated: Sequence[bool]) -> None:
        assert self._jacobian is not None
        tasks = [t for t, here in enumerate(annotated) if here]
        for t in tasks:
            task = self._partition.tasks[t]
            maps, gradients = zip(*gradients_at(pyramids[task], leaves[task]), strict=True)
            row = self._jacobian[sum(self._present[:t])]
            for p in self._partition.shared:
                p.grad = self._as(p, row)  # autograd adds to it in place: no second copy of the row
            torch.autograd.backward(
                maps, gradients, retain_graph=t != tasks[-1], inputs=self._partition.trunk[t]
            )
        for p in self._partition.shared:
            p.grad = None

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
        apart = []
        for of_trunk, of_head in zip(self._partition.own, self._partition.heads, strict=True):
            for p in of_trunk:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            apart.append([*of_trunk, *of_head])
        scale_gradients(apart, own)
        self._sum(gradients_of(apart))

    def _as(self, parameter: Tensor, vector: Tensor) -> Tensor:
        """The entries of ``vector`` (P,) of a parameter, in its own memory format."""
        offset = vector.storage_offset() + self._partition.offsets[id(parameter)]
        return torch.as_strided(vector, parameter.size(), parameter.stride(), offset)
