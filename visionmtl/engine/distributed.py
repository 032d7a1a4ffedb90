"""The processes of a run that ``torchrun`` started; alone, nothing here costs anything."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_SYNC_BUFFERS = "broadcast_buffers"
if "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters:
    _SYNC_BUFFERS = "forward_sync_buffers"  # in torch 2.15, where the other name warns


class World:
    """What the processes tell each other. With one process every method does nothing.

    All processes call the same methods in the same order. Host values go over gloo, so that no
    device has to wait.

    Args:
        rank: of this process; rank 0 prints and writes.
        size: how many processes there are; more than one have joined ``torch.distributed``.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._host: Any = None
        if size > 1:
            self._host = dist.new_group(backend="gloo")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of one type and device over the processes, in place."""
        if self.size == 1 or not tensors:
            return
        if len(tensors) == 1 and tensors[0].is_contiguous():
            dist.all_reduce(tensors[0])
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def sum_host(self, values: Sequence[int]) -> list[int]:
        """Sums of integers over the processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values)
        dist.all_reduce(sums, group=self._host)
        return [int(value) for value in sums.tolist()]

    def sum_table(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Sums of rows of integers over the processes, in one message."""
        sums = iter(self.sum_host([value for row in rows for value in row]))
        return [list(islice(sums, len(row))) for row in rows]

    def gather(self, value: T) -> list[T]:
        """The plain value of every process, in their order."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self._host)
        return values

    def from_main(self, function: Callable[[], T]) -> T:
        """What ``function`` gives, or raises, in the main process, which alone calls it."""
        if self.size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = function()
            except (ValueError, OSError, RuntimeError) as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, group=self._host)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    @torch.no_grad()
    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the tensors of the main one, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            value = tensor.contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)

    def parallel(self, model: nn.Module, find_unused: bool) -> nn.Module:
        """The network in ``DistributedDataParallel``; alone, the network itself."""
        if self.size == 1:
            return model
        # Batch norm has its own running statistics in each process; those of the main one are
        # evaluated and saved.
        own_buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        return nn.parallel.DistributedDataParallel(
            model, find_unused_parameters=find_unused, **own_buffers
        )


@contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that ``torchrun`` started; gives the world and the device of this process.

    Raises:
        ValueError: more processes than CUDA devices, or several on a device that can have but one.
    """
    rank = int(os.environ.get("RANK", 0))
    size = int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if size == 1:
        yield World(), device
        return
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise ValueError(f"more processes than CUDA devices ({count}) on this machine")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ValueError(f"several processes work on CUDA devices or the CPU, not on {device.type}")
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend)
    yield World(rank, size), device
    # Not after an error: processes that still wait for this one would hold it up.
    dist.destroy_process_group()
