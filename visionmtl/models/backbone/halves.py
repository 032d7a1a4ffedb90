"""Where the stages of a timm backbone are halved, for sharing schemes that look inside a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.regnet import RegStage
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]
"""Path of a block -> the shape that it gave, in order."""


@dataclass(frozen=True)
class Half:
    """The end of the first half of a stage.

    That is block ceil(n / 2) of the n blocks that give the stage's resolution. A stage with fewer
    than two such blocks, or whose inside is not a chain of blocks (VGG's layers, dense blocks,
    aggregation trees), is not halved: its output stands for both.

    Attributes:
        channels: channels of the map there.
        path: the block, as ``stage.get_submodule`` takes it; empty where the stage is not halved.
        block: the number of the block, from 1.
        blocks: n.
        channels_last: whether the block gives (B, h, w, C) or tokens (B, h * w, C) instead of (B,
            C, h, w).
    """

    channels: int
    path: str = ""
    block: int = 0
    blocks: int = 0
    channels_last: bool = False

    def __str__(self) -> str:
        if not self.path:
            return "output"
        return f"block {self.block} of {self.blocks}"

    def to_nchw(self, x: Tensor, output: Tensor) -> Tensor:
        """What the block gave, as (B, C, h, w), for the stage's ``output`` in that layout."""
        if not self.channels_last:
            return x
        return x.movedim(-1, 1).reshape(x.shape[0], self.channels, *output.shape[-2:]).contiguous()


def find_halves(stages: Iterable[nn.Module]) -> list[Half]:
    """Halve every stage (NCHW -> NCHW, in evaluation mode) by passing an image through them."""
    halves = []
    # Height and width differ, so that the layout of a map is seen in its shape.
    x = torch.zeros(1, 3, 64, 96)
    with torch.no_grad():
        for stage in stages:
            x, shapes = _trace(stage, x)
            halves.append(_halve(shapes, x))
    return halves


def _trace(stage: nn.Module, x: Tensor) -> tuple[Tensor, Shapes]:
    """The stage's output, and the shape that each of its blocks gave."""
    shapes: Shapes = {}

    def note(path: str, block: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[path] = tuple(output.shape)

    handles = []
    for path, block in _blocks(stage):
        handles.append(block.register_forward_hook(partial(note, path)))
    x = stage(x)
    for handle in handles:
        handle.remove()
    return x, shapes


def _blocks(stage: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a stage and their paths; single layers, as in a stem, are none."""
    for prefix, chain in _chains(stage):
        for i, block in chain.named_children():
            if list(block.children()):
                yield f"{prefix}.{i}", block


def _chains(stage: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The chains of blocks in a stage and their paths."""
    for name, module in stage.named_children():
        blocks = getattr(module, "blocks", None)
        if isinstance(blocks, nn.Sequential | nn.ModuleList):
            yield f"{name}.blocks", blocks  # ConvNeXt, Swin, PVT, FastViT, RepViT, EdgeNeXt ...
        elif type(module) is nn.Sequential or isinstance(module, RegStage):
            yield name, module


def _halve(shapes: Shapes, output: Tensor) -> Half:
    """The half of a stage whose blocks gave ``shapes``."""
    size = tuple(output.shape[-2:])
    tokens = (output.shape[-2:].numel(),)
    paths = []
    for path, shape in shapes.items():
        if shape[2:] == size or shape[1:-1] in (size, tokens):
            paths.append(path)
    if len(paths) < 2:
        return Half(output.shape[1])
    block = (len(paths) + 1) // 2
    path = paths[block - 1]
    shape = shapes[path]
    if shape[2:] == size:
        return Half(shape[1], path, block, len(paths))
    return Half(shape[-1], path, block, len(paths), channels_last=True)
