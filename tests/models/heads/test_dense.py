from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.models.heads.base import DenseHead
from visionmtl.models.heads.depth import MIN_DEPTH, DepthHead
from visionmtl.models.heads.disparity import DisparityHead
from visionmtl.models.heads.mask import MaskHead
from visionmtl.models.heads.normals import NormalsHead
from visionmtl.models.heads.semseg import SemSegHead

STRIDES = [4, 8, 16, 32]
SIZES = [(1, 1), (33, 47), (64, 64), (32, 95)]


def pyramid(size: tuple[int, int], scale: float = 1.0, channels: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    height, width = (side + -side % 32 for side in size)
    shapes = [(2, channels, height // s, width // s) for s in STRIDES]
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("size", SIZES)
def test_semseg_logits(size: tuple[int, int]) -> None:
    head = SemSegHead(8, STRIDES, 5).eval()
    assert head(pyramid(size), size).shape == (2, 5, *size)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("size", SIZES)
def test_depth_is_positive_and_bounded(size: tuple[int, int], scale: float) -> None:
    head = DepthHead(8, STRIDES, 6.0).eval()
    depth = head(pyramid(size, scale), size)
    assert depth.shape == (2, 1, *size)
    assert depth.min() >= MIN_DEPTH > 0
    assert depth.max() <= 6.0


def test_depth_starts_at_three_tenths_of_the_range() -> None:
    head = DepthHead(8, STRIDES, 10.0).eval()
    depth = head([torch.zeros_like(p) for p in pyramid((32, 32))], (32, 32))
    torch.testing.assert_close(depth, torch.full_like(depth, 3.0007))


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("size", SIZES)
def test_disparity_is_bounded(size: tuple[int, int], scale: float) -> None:
    head = DisparityHead(8, STRIDES, 126.0).eval()
    disparity = head(pyramid(size, scale), size)
    assert disparity.shape == (2, 1, *size)
    assert disparity.min() >= 0
    assert disparity.max() <= 126.0


def test_disparity_starts_at_a_fifth_of_the_range() -> None:
    head = DisparityHead(8, STRIDES, 100.0).eval()
    disparity = head([torch.zeros_like(p) for p in pyramid((32, 32))], (32, 32))
    torch.testing.assert_close(disparity, torch.full_like(disparity, 20.0))


@pytest.mark.parametrize("size", SIZES)
def test_mask_logits(size: tuple[int, int]) -> None:
    assert MaskHead(8, STRIDES).eval()(pyramid(size), size).shape == (2, 1, *size)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("size", SIZES)
def test_normals_have_unit_length(size: tuple[int, int], scale: float) -> None:
    head = NormalsHead(8, STRIDES).eval()
    normals = head(pyramid(size, scale), size)
    assert normals.shape == (2, 3, *size)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, *size))


def test_normals_of_a_zero_map_are_finite_with_a_gradient() -> None:
    head = NormalsHead(8, STRIDES)
    assert head.predict.bias is not None
    head.predict.weight.data.zero_()
    head.predict.bias.data.zero_()
    normals = head(pyramid((32, 32)), (32, 32))
    assert (normals == 0).all()
    normals.sum().backward()
    assert head.predict.bias.grad is not None
    assert head.predict.bias.grad.isfinite().all()


def test_dense_head_is_the_sum_of_the_levels() -> None:
    torch.manual_seed(0)
    head = DenseHead(8, STRIDES, 3, channels=4).eval()
    maps = pyramid((64, 96))
    x: Tensor | int = 0
    for level in (3, 2, 1, 0):  # each level is brought to stride 4 by doublings
        y = head.reduce[level](maps[level])
        x = x + y
        if level:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.interpolate(
        head.predict(head.mix(x)), scale_factor=4, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(head.logits(maps, (64, 96)), expected)
    assert torch.equal(head.logits(maps, (50, 71)), head.logits(maps, (64, 96))[..., :50, :71])


@pytest.mark.parametrize("strides", [[8, 16, 32, 64], [2, 4, 8, 16], [4, 8, 16, 16]])
def test_other_strides_give_the_size_of_the_image(strides: list[int]) -> None:
    head = DepthHead(8, strides, 10.0).eval()
    maps = [torch.randn(2, 8, 128 // stride, 192 // stride) for stride in strides]
    assert head(maps, (100, 131)).shape == (2, 1, 100, 131)


@pytest.mark.parametrize("strides", [[4, 8, 16], [32, 16, 8, 4]])
@pytest.mark.parametrize(
    "make",
    [
        lambda strides: SemSegHead(8, strides, 3),
        lambda strides: DepthHead(8, strides, 10.0),
        lambda strides: NormalsHead(8, strides),
        lambda strides: MaskHead(8, strides),
        lambda strides: DisparityHead(8, strides, 10.0),
    ],
)
def test_wrong_strides_are_refused(
    make: Callable[[list[int]], DenseHead], strides: list[int]
) -> None:
    name = type(make(STRIDES)).__name__
    needs = f"{name} needs a pyramid with four strides, finest first, such as [4, 8, 16, 32]"
    message = re.escape(f"{needs}; the decoder gives {strides}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        make(strides)


def test_width_is_an_option() -> None:
    head = DepthHead(8, STRIDES, 10.0, channels=12)
    assert head.predict.in_channels == 12
    assert head.levels == (0, 1, 2, 3)


def test_output_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        heads = [SemSegHead(8, STRIDES, 3), DepthHead(8, STRIDES, 5.0), NormalsHead(8, STRIDES)]
        for head in (*heads, MaskHead(8, STRIDES), DisparityHead(8, STRIDES, 5.0)):
            assert head(pyramid((32, 64)), (32, 64)).dtype == torch.float32
