"""Who reaches which parameter, and the cut between trunk and heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Pyramid

Pyramids = Mapping[str, Pyramid]
SumInPlace = Callable[[Sequence[Tensor]], None]
"""Sums tensors over all processes."""


def cut(pyramids: Pyramids) -> dict[str, Pyramid]:
    """Leaves with the values of the maps; every task has its own, also of a map that several read.

    Args:
        pyramids: per task, with their graph.
    """
    leaves = {}
    for task, pyramid in pyramids.items():
        leaves[task] = [x.detach().requires_grad_() for x in pyramid]
    return leaves


def gradients_at(pyramid: Pyramid, leaves: Pyramid) -> list[tuple[Tensor, Tensor]]:
    """The maps that the head of a task read, and the gradient of its loss there."""
    pairs = []
    for x, leaf in zip(pyramid, leaves, strict=True):
        if leaf.grad is not None:
            pairs.append((x, leaf.grad))
    return pairs


class Partition:
    """The trainable parameters of a network by who reaches them.

    Attributes:
        tasks: names, in task order.
        shared: those that at least two tasks reach; P numbers.
        size: P.
        offsets: where the numbers of a shared parameter, by its id, start among the P.
        trunk: per task, what it reaches of the trunk, shared or not.
        own: per task, what only it reaches of the trunk.
        heads: per task.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self.tasks = [spec.name for spec in model.tasks]
        self.shared = _trainable(model.shared_parameters())
        self.size = 0
        self.offsets: dict[int, int] = {}
        for p in self.shared:
            self.offsets[id(p)] = self.size
            self.size += p.numel()
        self.trunk = []
        self.own = []
        self.heads = []
        for task in self.tasks:
            trunk = _trainable(model.sharing.parameters_reaching(task))
            self.trunk.append(trunk)
            self.own.append([p for p in trunk if id(p) not in self.offsets])
            self.heads.append(_trainable(model.heads[task].parameters()))


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


def gradients_of(parts: Iterable[Iterable[nn.Parameter]]) -> list[Tensor]:
    """The gradients of some parts, each parameter once."""
    parameters: dict[nn.Parameter, None] = {}
    for part in parts:
        parameters.update(dict.fromkeys(part))
    return [p.grad for p in parameters if p.grad is not None]


def scale_gradients(parts: Sequence[Sequence[nn.Parameter]], factors: Tensor) -> None:
    """Multiply the gradients of each part by its factor (T,)."""
    for part, factor in zip(parts, factors.unbind(), strict=True):
        gradients = gradients_of([part])
        if gradients:
            torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
