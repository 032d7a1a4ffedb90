from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visionmtl.models.backbone.simple_pyramid import SimpleFeaturePyramid


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (14, 14)])
def test_four_strides_of_one_width(size: tuple[int, int]) -> None:
    height, width = size
    x = torch.randn(2, 6, 2 * height, 2 * width)
    shapes = [tuple(c.shape) for c in SimpleFeaturePyramid(6)(x)]
    assert shapes == [(2, 6, scale * height, scale * width) for scale in (8, 4, 2, 1)]


def test_c4_is_the_map_and_c5_its_maximum() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    _, _, c4, c5 = SimpleFeaturePyramid(1)(x)
    assert torch.equal(c4, x)
    assert c5.tolist() == [[[[5, 7], [13, 15]]]]


def test_upsampled_maps_against_matrix_products() -> None:
    torch.manual_seed(0)
    pyramid = SimpleFeaturePyramid(4).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    c2, c3, _, _ = pyramid(x)
    torch.testing.assert_close(c3, double_size(x, pyramid.branches[1]))
    first, norm, _, second = pyramid.branches[0]  # type: ignore[misc]
    middle = double_size(x, first)
    centred = middle - middle.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(c2, double_size(F.gelu(scaled), second))


def double_size(x: torch.Tensor, conv: nn.ConvTranspose2d) -> torch.Tensor:
    """A transposed convolution of stride 2 and size 2 gives each pixel four of its own: a matrix
    product.
    """
    assert conv.bias is not None
    b, _, h, w = x.shape
    blocks = torch.einsum("bihw,iojk->bohjwk", x, conv.weight)
    return blocks.reshape(b, -1, 2 * h, 2 * w) + conv.bias.view(1, -1, 1, 1)
