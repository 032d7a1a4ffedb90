from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from visionmtl.models.backbone import create_backbone
from visionmtl.models.decoders import FPN
from visionmtl.models.sharing.independent import IndependentSharing
from visionmtl.models.sharing.nddr import NDDR, NDDRUnit

# What NDDR has in common with cross-stitch is tested in test_cross_stitch.py, for both.

LEVELS = {"semseg": (0, 1, 2, 3), "depth": (0, 1, 2, 3), "normals": (0, 1, 2, 3)}
PARTS = partial(create_backbone, "test_resnet"), partial(FPN, channels=8)


def test_unit_is_a_convolution_of_all_features_and_batch_norm() -> None:
    unit = NDDRUnit(["a", "b", "c"], torch.zeros(3, 3), channels=4).double()
    for parameter in unit.parameters():
        nn.init.normal_(parameter)
    maps = {task: torch.randn(2, 4, 3, 5, dtype=torch.float64) for task in "abc"}
    together = np.concatenate([m.numpy() for m in maps.values()], axis=1)
    for task, found in unit(maps, "abc").items():
        conv, norm = unit.reduce[task]  # type: ignore[misc]
        x = np.einsum("oc,bchw->bohw", conv.weight.detach().numpy()[:, :, 0, 0], together)
        mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        scale, shift = (p.detach().numpy()[None, :, None, None] for p in (norm.weight, norm.bias))
        expected = (x - mean) / np.sqrt(variance + norm.eps) * scale + shift
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-10)
    assert list(unit(maps, ["c", "b"])) == ["b", "c"]


def test_diagonals_at_the_start() -> None:
    sharing = NDDR.build(LEVELS, *PARTS, alpha=0.8)
    for unit, channels in zip(sharing.units, sharing.backbones[0].channels, strict=True):
        for t, (conv, _) in enumerate(unit.reduce.values()):
            blocks = conv.weight[:, :, 0, 0].detach().split(channels, dim=1)
            for j, block in enumerate(blocks):
                torch.testing.assert_close(block, (0.8 if j == t else 0.1) * torch.eye(channels))
    conv = NDDR.build({"depth": (3,)}, *PARTS, alpha=0.8).units[0].reduce["depth"][0]
    assert torch.equal(conv.weight[:, :, 0, 0], torch.eye(len(conv.weight)))


def test_passes_its_own_features_at_the_start() -> None:
    nddr, independent = (
        NDDR.build(LEVELS, *PARTS).eval(),
        IndependentSharing.build(LEVELS, *PARTS).eval(),
    )
    independent.trunks.load_state_dict(nddr.trunks.state_dict())
    for unit in nddr.units:
        for _, norm in unit.reduce.values():
            norm.eps = 0.0
    image = torch.randn(1, 3, 64, 64)
    found, expected = nddr(image), independent(image)
    for task, pyramid in expected.items():
        for p, q in zip(found[task], pyramid, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_keeps_channels_last() -> None:
    unit = NDDRUnit(["a", "b"], torch.eye(2), channels=6)
    maps = {task: torch.randn(2, 6, 4, 4).to(memory_format=torch.channels_last) for task in "ab"}
    assert all(
        x.is_contiguous(memory_format=torch.channels_last) for x in unit(maps, "ab").values()
    )


def test_unit_parameters_are_convolutions_and_norms() -> None:
    sharing = NDDR.build(LEVELS, *PARTS)
    assert [id(p) for p in sharing.unit_parameters()] == [id(p) for p in sharing.units.parameters()]
    assert len(sharing.unit_parameters()) == 4 * 3 * 3
    assert sharing.no_weight_decay() == []


def test_last_unit_has_rows_of_each_task_alone() -> None:
    sharing = NDDR.build(LEVELS, *PARTS)
    shared = {id(p) for p in sharing.shared_parameters()}
    assert not shared & {id(p) for p in sharing.units[3].parameters()}
    assert {id(p) for unit in sharing.units[:3] for p in unit.parameters()} <= shared
    assert {id(p) for backbone in sharing.backbones for p in backbone.parameters()} <= shared
