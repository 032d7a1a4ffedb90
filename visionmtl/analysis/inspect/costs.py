"""What a network costs: parameters, arithmetic, and what it keeps for the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class Cost:
    """The cost of one image.

    Attributes:
        macs: multiply-accumulate operations.
        saved: bytes of the activations that are kept for the backward pass.
    """

    macs: int
    saved: int


@dataclass(frozen=True)
class Costs:
    """What a network costs as a whole, and for one task at a time.

    Attributes:
        height, width: of the image.
        parameters: in total.
        shared: parameters that at least two task losses reach.
        own: task -> parameters that only its loss reaches.
        whole: all tasks in one pass.
        alone: task -> a pass for this task only.
    """

    height: int
    width: int
    parameters: int
    shared: int
    own: dict[str, int]
    whole: Cost
    alone: dict[str, Cost]


def measure_costs(model: MultiTaskModel, height: int, width: int) -> Costs:
    """Count on one image of this size, in float32; the model is left as it is."""
    tasks = [spec.name for spec in model.tasks]
    image = torch.zeros(1, 3, height, width)
    scratch = copy.deepcopy(model)  # a pass in training mode changes the statistics of batch norm

    def cost(asked: list[str]) -> Cost:
        macs = count_macs(scratch.eval(), image, tasks=asked)
        # Batch norm cannot train on a single pixel, which one image may have at the end of the
        # backbone.
        two_images = image.repeat(2, 1, 1, 1)
        return Cost(macs, saved_bytes(scratch.train(), two_images, tasks=asked) // 2)

    return Costs(
        height=height,
        width=width,
        parameters=num_parameters(model.parameters()),
        shared=num_parameters(model.shared_parameters()),
        own={task: num_parameters(model.task_parameters(task)) for task in tasks},
        whole=cost(tasks),
        alone={task: cost([task]) for task in tasks},
    )


def count_macs(model: nn.Module, images: Tensor, **options: Any) -> int:
    """Multiply-accumulate operations of the convolutions, matrix products and attentions of one
    pass.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images, **options)
    return int(counter.get_total_flops()) // 2


def saved_bytes(model: nn.Module, images: Tensor, **options: Any) -> int:
    """Bytes that one forward pass keeps for the backward pass: every storage once, without
    parameters and buffers.
    """
    own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        saved[storage.data_ptr()] = storage  # held, so that no other tensor gets the same address
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(images, **options)
    return sum(storage.nbytes() for address, storage in saved.items() if address not in own)


def num_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """The sum of their sizes."""
    return sum(p.numel() for p in parameters)


def input_size(config: Config) -> tuple[int, int] | None:
    """Height and width of ``model.input_size``, else that of the first set: of its last training
    step, or of rooms.
    """
    if config.model.input_size is not None:
        return config.model.input_size
    source = sources(config.data)[0]
    for step in reversed(source.transforms.train):
        if "size" in step.options:
            height, width = step.options["size"]
            return height, width
    return source.options.get("size")
