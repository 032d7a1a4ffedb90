from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from visionmtl.models.backbone.halves import Half, find_halves


class Block(nn.Module):
    """A block of one layer."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(x)
        return y


class Wider(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 2, 1, 1)


class Pair(Block):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x


class First(Block):
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return x[0]


class Stage(nn.Module):
    """Blocks on tokens (B, h * w, C) or maps (B, h, w, C), after a pooling."""

    def __init__(self, blocks: nn.ModuleList | nn.Sequential, tokens: bool) -> None:
        super().__init__()
        self.downsample = Block(4)
        self.blocks = blocks
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x).permute(0, 2, 3, 1)
        size = x.shape[1:3]
        x = x.flatten(1, 2) if self.tokens else x
        for block in self.blocks:
            x = block(x)
        return (x.unflatten(1, size) if self.tokens else x).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("blocks", "block"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_first_half_is_the_larger(blocks: int, block: int) -> None:
    stage = nn.Sequential(nn.AvgPool2d(4), nn.Sequential(*(Block() for _ in range(blocks))))
    assert find_halves([stage]) == [Half(3, f"1.{block - 1}", block, blocks)]


def test_blocks_of_another_resolution_do_not_count() -> None:
    stage = nn.Sequential(
        Block(2),
        nn.Sequential(Block(), Wider(), Block(2)),
        nn.Sequential(Wider(), Block(), Block()),
    )
    (half,) = find_halves([stage])
    assert half == Half(12, "2.0", 2, 4)
    assert str(half) == "block 2 of 4"


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("kind", [nn.ModuleList, nn.Sequential])
def test_layout_is_seen_in_the_shape(
    kind: type[nn.ModuleList] | type[nn.Sequential], tokens: bool
) -> None:
    blocks = [Block(), Block(), Block()]
    stage = Stage(
        nn.ModuleList(blocks) if kind is nn.ModuleList else nn.Sequential(*blocks), tokens
    )
    (half,) = find_halves([nn.Sequential(stage)])
    assert half == Half(3, "0.blocks.1", 2, 3, channels_last=True)
    output = torch.randn(2, 3, 5, 5)
    given = output.permute(0, 2, 3, 1)
    assert torch.equal(half.to_nchw(given.flatten(1, 2) if tokens else given, output), output)


@pytest.mark.parametrize(
    "stage",
    [
        nn.Sequential(Block(4), nn.Sequential(Block())),
        nn.Sequential(Block(4), Block(), Block()),
        nn.Sequential(nn.AvgPool2d(4), nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.ReLU())),
        nn.Sequential(nn.AvgPool2d(4), nn.Sequential(Pair(), First())),
    ],
    ids=["one block", "no chain", "layers", "no map between them"],
)
def test_stage_that_cannot_be_halved_gives_its_output(stage: nn.Module) -> None:
    (half,) = find_halves([stage])
    assert half == Half(3)
    assert str(half) == "output"


def test_stages_are_chained_and_their_hooks_removed() -> None:
    stages = [
        nn.Sequential(nn.Sequential(Block(4), Wider(), Block())),
        nn.Sequential(nn.Sequential(Wider(2), Block())),
    ]
    assert find_halves(stages) == [Half(6, "0.1", 2, 3), Half(12, "0.0", 1, 2)]
    assert not any(module._forward_hooks for stage in stages for module in stage.modules())
