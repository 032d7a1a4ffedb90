from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visionmtl.models.decoders import FPN, BiFPN
from visionmtl.models.decoders.bifpn import BiFPNLayer, FusionNode

LITE0, RESNET50 = [24, 40, 112, 320], [256, 512, 1024, 2048]


def maps(channels: list[int], size: int = 64) -> list[Tensor]:
    return [
        torch.randn(1, c, size // s, size // s)
        for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]


def fusion_only(num_inputs: int, channels: int = 1) -> FusionNode:
    node = FusionNode(num_inputs, channels)
    node.conv = cast("nn.Module", nn.Identity())  # type: ignore[assignment]
    return node


def swish(x: float) -> float:
    return float(F.silu(torch.tensor(x)))


def test_fusion_golden_value() -> None:
    node = fusion_only(2)
    node.weights.data = torch.tensor([3.0, 1.0])
    out = node(torch.full((1, 1, 2, 2), 4.0), torch.full((1, 1, 2, 2), 8.0))
    # (3 * 4 + 1 * 8) / (4 + 1e-4) = 4.999875, then swish
    assert out.flatten().tolist() == pytest.approx([swish(20 / 4.0001)] * 4)


def test_negative_weights_count_as_zero_and_no_weight_is_safe() -> None:
    node = fusion_only(3)
    node.weights.data = torch.tensor([-5.0, 2.0, 0.0])
    inputs = [torch.full((1, 1, 1, 1), v) for v in (100.0, 3.0, 100.0)]
    assert node(*inputs).item() == pytest.approx(swish(6 / 2.0001))
    node.weights.data = torch.full((3,), -1.0)
    assert node(*inputs).item() == 0


def test_layer_is_figure_3() -> None:
    """Constant maps, fusion nodes without convolution: every node can be worked out by hand."""
    layer = BiFPNLayer(1)
    for nodes in (layer.down, layer.up):
        for i, node in enumerate(nodes):
            nodes[i] = fusion_only(len(cast("FusionNode", node).weights))
    values = [1.0, 2.0, 3.0, 4.0]
    sizes = [16, 8, 4, 2]
    out = layer([torch.full((1, 1, n, n), v) for v, n in zip(values, sizes, strict=True)])

    def fuse(*inputs: float) -> float:
        return swish(sum(inputs) / (len(inputs) + 1e-4))

    p2, p3, p4, p5 = values
    m4 = fuse(p4, p5)
    m3 = fuse(p3, m4)
    o2 = fuse(p2, m3)
    o3 = fuse(p3, m3, o2)
    o4 = fuse(p4, m4, o3)
    o5 = fuse(p5, o4)
    for p, value, n in zip(out, (o2, o3, o4, o5), sizes, strict=True):
        torch.testing.assert_close(p, torch.full((1, 1, n, n), value))


def test_fine_maps_reach_p5() -> None:
    inputs = maps([4, 4, 4, 4])
    inputs[0].requires_grad_()
    p5 = BiFPN([4, 4, 4, 4], channels=8)(inputs)[3]
    grad = torch.autograd.grad(p5.square().sum(), inputs[0])[0]
    assert grad.abs().sum() > 0


def test_number_of_layers() -> None:
    assert len(BiFPN(LITE0, channels=8, num_layers=3).layers) == 3


@pytest.mark.parametrize(("channels", "low", "high"), [(LITE0, 0.28, 0.38), (RESNET50, 0.45, 0.55)])
def test_multiplications_against_fpn(channels: list[int], low: float, high: float) -> None:
    """A third of FPN's behind a light backbone, half of them behind ResNet-50."""
    counts = []
    for decoder in (FPN(channels, channels=96), BiFPN(channels, channels=96)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            decoder.eval()(maps(channels))
        counts.append(counter.get_total_flops())
    assert low < counts[1] / counts[0] < high
