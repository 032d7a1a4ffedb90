from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork

from visionmtl.models.decoders import DECODERS, FPN, Decoder

CHANNELS = [8, 12, 16, 24]


def pyramid(
    size: tuple[int, int], channels: list[int], requires_grad: bool = False
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (2, c, size[0] // s, size[1] // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    return [
        torch.randn(shape, generator=generator, requires_grad=requires_grad) for shape in shapes
    ]


def make(name: str, width: int) -> Decoder:
    return DECODERS[name](CHANNELS, channels=width)  # type: ignore[misc]


@pytest.mark.parametrize("width", [16, 40])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
@pytest.mark.parametrize("name", list(DECODERS))
def test_one_width_at_every_stride(name: str, size: tuple[int, int], width: int) -> None:
    decoder = make(name, width).eval()
    assert decoder.channels == width
    assert decoder.strides == [4, 8, 16, 32]
    shapes = [tuple(p.shape) for p in decoder(pyramid(size, CHANNELS))]
    assert shapes == [(2, width, size[0] // s, size[1] // s) for s in decoder.strides]


@pytest.mark.parametrize("name", list(DECODERS))
def test_sizes_that_do_not_halve(name: str) -> None:
    sizes = [(25, 19), (13, 10), (7, 5), (4, 3)]
    maps = [torch.randn(1, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    assert [tuple(p.shape[-2:]) for p in make(name, 8).eval()(maps)] == sizes


@pytest.mark.parametrize("name", list(DECODERS))
def test_published_parameters_are_those_that_autograd_reaches(name: str) -> None:
    decoder = make(name, 8)
    out = decoder(pyramid((64, 64), CHANNELS))
    for levels in ([0, 1, 2, 3], [1, 2, 3], [3]):
        loss = sum((out[level].square().sum() for level in levels), torch.zeros(()))
        grads = torch.autograd.grad(
            loss, list(decoder.parameters()), retain_graph=True, allow_unused=True
        )
        reached = {id(p) for p, g in zip(decoder.parameters(), grads, strict=True) if g is not None}
        assert {id(p) for p in decoder.parameters_reaching(levels)} == reached


@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_equals_torchvision(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    fpn, reference = FPN(CHANNELS, channels=16), FeaturePyramidNetwork(CHANNELS, 16)
    for i in range(4):
        reference.inner_blocks[i][0].load_state_dict(fpn.lateral[i].state_dict())
        reference.layer_blocks[i][0].load_state_dict(fpn.output[i].state_dict())
    maps = pyramid(size, CHANNELS)
    expected = reference({str(i): c for i, c in enumerate(maps)})
    for p, e in zip(fpn(maps), expected.values(), strict=True):
        torch.testing.assert_close(p, e)


def test_information_flows_from_coarse_to_fine_only() -> None:
    maps = pyramid((64, 64), CHANNELS, requires_grad=True)
    for level, p in enumerate(FPN(CHANNELS, channels=8)(maps)):
        grads = torch.autograd.grad(p.sum(), maps, retain_graph=True, allow_unused=True)
        assert [g is not None for g in grads] == [i >= level for i in range(4)]


@pytest.mark.parametrize("levels", [[0, 1, 2, 3], [1, 2, 3], [2], [3]])
@pytest.mark.parametrize("name", list(DECODERS))
def test_published_inputs_are_those_that_autograd_reaches(name: str, levels: list[int]) -> None:
    decoder = make(name, 8)
    maps = pyramid((64, 64), CHANNELS, requires_grad=True)
    out = decoder(maps)
    loss = sum((out[level].square().sum() for level in levels), torch.zeros(()))
    grads = torch.autograd.grad(loss, maps, allow_unused=True)
    assert decoder.inputs_reaching(levels) == [i for i, g in enumerate(grads) if g is not None]
