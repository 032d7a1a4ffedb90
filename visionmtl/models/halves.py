"""Where the stages of a timm backbone are halved, for sharing schemes that look inside a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from timm.models.regnet import RegStage
from torch import Tensor, nn


@dataclass(frozen=True)
class Half:
    """The end of the first half of a stage: block ceil(n / 2) of the n blocks that give the stage's
    resolution.

    A stage with fewer than two such blocks, or whose inside is not a chain of blocks (VGG's layers,
    dense blocks, aggregation trees), is not halved: its output stands for both.

    Attributes:
        channels: channels of the map there.
        path: the block, as ``stage.get_submodule`` takes it; empty where the stage is not halved.
        block, blocks: it is number ``block``, from 1, of ``blocks``.
        channels_last: whether the block gives (B, h, w, C) or tokens (B, h * w, C) instead of (B,
            C, h, w).
    """

    channels: int
    path: str = ""
    block: int = 0
    blocks: int = 0
    channels_last: bool = False

    def __str__(self) -> str:
        return f"block {self.block} of {self.blocks}" if self.path else "output"

    def to_nchw(self, x: Tensor, output: Tensor) -> Tensor:
        """What the block gave, as (B, C, h, w), for the stage's ``output`` in that layout."""
        if not self.channels_last:
            return x
        return x.movedim(-1, 1).reshape(x.shape[0], self.channels, *output.shape[-2:]).contiguous()


def find_halves(stages: Iterable[nn.Module]) -> list[Half]:
    """Halve every stage (NCHW -> NCHW, in evaluation mode) by passing an image through them."""
    halves = []
    with torch.no_grad():
        x = torch.zeros(
            1, 3, 64, 96
        )  # height and width differ, so that the layout of a map is seen in its shape
        for stage in stages:
            x, shapes = _trace(stage, x)
            halves.append(_halve(shapes, x))
    return halves


def _trace(stage: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, tuple[int, ...]]]:
    """The stage's output, and the shape that each of its blocks gave, in order."""
    shapes = {}

    def note(path: str, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[path] = tuple(output.shape)

    handles = [
        block.register_forward_hook(lambda module, inputs, output, path=path: note(path, output))
        for path, block in _blocks(stage)
    ]
    x = stage(x)
    for handle in handles:
        handle.remove()
    return x, shapes


def _blocks(stage: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a stage and their paths; single layers, as in a stem, are none."""
    for name, module in stage.named_children():
        prefix, chain = name, module
        if isinstance(blocks := getattr(module, "blocks", None), nn.Sequential | nn.ModuleList):
            prefix, chain = (
                f"{name}.blocks",
                blocks,
            )  # ConvNeXt, Swin, PVT, FastViT, RepViT, EdgeNeXt, MambaOut ...
        elif type(module) is not nn.Sequential and not isinstance(module, RegStage):
            continue
        yield from (
            (f"{prefix}.{i}", block)
            for i, block in chain.named_children()
            if list(block.children())
        )


def _halve(shapes: dict[str, tuple[int, ...]], output: Tensor) -> Half:
    size, tokens = tuple(output.shape[-2:]), output.shape[-2:].numel()
    paths = [
        path
        for path, shape in shapes.items()
        if shape[2:] == size or shape[1:-1] in (size, (tokens,))
    ]
    if len(paths) < 2:
        return Half(output.shape[1])
    block = (len(paths) + 1) // 2
    shape = shapes[path := paths[block - 1]]
    channels_last = shape[2:] != size
    return Half(shape[-1 if channels_last else 1], path, block, len(paths), channels_last)
