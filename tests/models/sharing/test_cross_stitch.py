from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from visionmtl.models.backbone import create_backbone
from visionmtl.models.decoders import FPN, BiFPN, Decoder
from visionmtl.models.sharing.base import Sharing
from visionmtl.models.sharing.cross_stitch import CrossStitch, CrossStitchUnit
from visionmtl.models.sharing.independent import IndependentSharing
from visionmtl.models.sharing.nddr import NDDR
from visionmtl.models.sharing.stitched import StitchedTrunks
from visionmtl.models.sharing.trunks import TrunkPerTask
from visionmtl.types import Pyramid

ALL = (0, 1, 2, 3)
LEVELS = {"semseg": ALL, "depth": ALL, "detection": (1, 2, 3)}
SCHEMES = [CrossStitch, NDDR]
"""What they have in common, all that is in ``stitched``, is tested here for both."""


def build(
    scheme: type[TrunkPerTask],
    levels: dict[str, tuple[int, ...]] = LEVELS,
    decoder: type[Decoder] = FPN,
    backbone: str = "test_resnet",
    **options: float,
) -> TrunkPerTask:
    return scheme.build(
        levels, partial(create_backbone, backbone), partial(decoder, channels=8), **options
    )


class CoarseBlind(Decoder):
    """Gives p2..p5 from the maps up to c3; its p2 does not even read that."""

    def __init__(self, in_channels: Sequence[int], channels: int = 8) -> None:
        super().__init__(channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels[:2])

    def forward(self, pyramid: Pyramid) -> Pyramid:
        return [lateral(c) for lateral, c in zip(self.lateral, pyramid, strict=False)]

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        return [p for level in levels for p in self.lateral[level].parameters()]

    def inputs_reaching(self, levels: Sequence[int]) -> list[int]:
        return list(levels)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 32, 64)


def test_unit_is_a_channelwise_weighted_sum() -> None:
    unit = CrossStitchUnit(torch.zeros(3, 3), channels=5).double()
    nn.init.normal_(unit.alpha)
    maps = {task: torch.randn(2, 5, 4, 6, dtype=torch.float64) for task in "abc"}
    found = unit(maps, ["a", "b", "c"])
    alpha, x = unit.alpha.detach().numpy(), np.stack([m.numpy() for m in maps.values()])
    for t, task in enumerate("abc"):
        expected = sum(alpha[t, j][None, :, None, None] * x[j] for j in range(3))
        np.testing.assert_allclose(found[task].detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert list(unit(maps, ["c", "b"])) == ["b", "c"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unit_keeps_dtype_and_channels_last(dtype: torch.dtype) -> None:
    unit = CrossStitchUnit(torch.full((2, 2), 0.5), channels=6)
    maps = {
        task: torch.randn(2, 6, 4, 4, dtype=dtype).to(memory_format=torch.channels_last)
        for task in "ab"
    }
    for x in unit(maps, "ab").values():
        assert x.dtype == dtype
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_alpha_at_the_start() -> None:
    sharing = build(CrossStitch)
    assert [unit.alpha.shape[2] for unit in sharing.units] == sharing.backbones[0].channels
    expected = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    for unit in sharing.units:
        torch.testing.assert_close(unit.alpha[..., 0].detach(), expected)
        assert torch.equal(unit.alpha.amin(2), unit.alpha.amax(2))
    assert build(CrossStitch, {"depth": ALL}).units[0].alpha.unique().tolist() == [1.0]
    assert build(CrossStitch, alpha=0.5).units[0].alpha.unique().tolist() == [0.25, 0.5]


def test_alphas_are_the_unit_parameters_and_not_decayed() -> None:
    sharing = build(CrossStitch)
    alphas = [id(unit.alpha) for unit in sharing.units]
    assert [id(p) for p in sharing.unit_parameters()] == alphas
    assert [id(p) for p in sharing.no_weight_decay()] == alphas


@pytest.mark.parametrize("training", [False, True])
def test_identity_units_equal_independent_trunks(training: bool, image: torch.Tensor) -> None:
    stitched, independent = build(CrossStitch, alpha=1.0), build(IndependentSharing)
    independent.trunks.load_state_dict(stitched.trunks.state_dict())
    found, expected = stitched.train(training)(image), independent.train(training)(image)
    assert list(found) == list(LEVELS)
    for task, pyramid in expected.items():
        for p, q in zip(found[task], pyramid, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_moves_every_unit_and_trunk(
    scheme: type[StitchedTrunks], image: torch.Tensor
) -> None:
    sharing = build(scheme, alpha=0.9)
    before = {name: p.detach().clone() for name, p in sharing.named_parameters()}
    optimizer = torch.optim.SGD(sharing.parameters(), lr=0.1)
    sum(p.square().mean() for pyramid in sharing(image).values() for p in pyramid).backward()
    optimizer.step()
    moved = {name for name, p in sharing.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if name.startswith("units")} <= moved
    for task in LEVELS:
        for part, count in (("0.stages", 4), ("1.lateral", 4)):
            prefixes = [f"trunks.{task}.{part}.{i}." for i in range(count)]
            assert all(any(name.startswith(prefix) for name in moved) for prefix in prefixes)


def check_reached(sharing: Sharing, image: torch.Tensor) -> None:
    """``parameters_reaching`` and ``shared_parameters`` are what autograd finds."""
    pyramids, parameters, counts = sharing(image), list(sharing.parameters()), Counter[int]()
    for task, levels in sharing.levels.items():
        loss = sum(pyramids[task][level].square().sum() for level in levels)
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        expected = {id(p) for p, grad in zip(parameters, grads, strict=True) if grad is not None}
        found = [id(p) for p in sharing.parameters_reaching(task)]
        assert len(set(found)) == len(found)
        assert set(found) == expected
        counts.update(found)
    assert {id(p) for p in sharing.shared_parameters()} == {
        p for p, count in counts.items() if count >= 2
    }


@pytest.mark.parametrize(
    "levels",
    [(ALL, ALL, (1, 2, 3)), ((0,), (3,)), ((2,),), ((1, 2), (0, 3), (2, 3))],
    ids=lambda levels: "+".join("".join(map(str, one)) for one in levels),
)
@pytest.mark.parametrize("decoder", [FPN, BiFPN])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_parameters_reaching_agree_with_autograd(
    scheme: type[StitchedTrunks],
    decoder: type[Decoder],
    levels: tuple[tuple[int, ...], ...],
    image: torch.Tensor,
) -> None:
    named = {f"task{i}": one for i, one in enumerate(levels)}
    if decoder is BiFPN:  # it promises nothing finer to heads that do not read p5
        named = {task: (*one, 3) if 3 not in one else one for task, one in named.items()}
    check_reached(build(scheme, named, decoder), image)


@pytest.mark.parametrize(
    ("scheme", "backbone"), [(CrossStitch, "test_convnext"), (NDDR, "test_efficientnet")]
)
def test_parameters_reaching_with_other_backbones(
    scheme: type[StitchedTrunks], backbone: str, image: torch.Tensor
) -> None:
    check_reached(build(scheme, backbone=backbone), image)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stages_and_rows_that_no_decoder_reads_do_not_run(
    scheme: type[StitchedTrunks], image: torch.Tensor
) -> None:
    sharing = build(scheme, {"fine": (0,), "middle": (0, 1), "also": (1,)}, CoarseBlind)
    check_reached(sharing, image)
    ran: list[tuple[str, int]] = []
    rows: list[list[str]] = []
    for task in sharing.levels:
        for s, stage in enumerate(sharing.trunk(task)[0].stages):
            stage.register_forward_hook(lambda *args, task=task, s=s: ran.append((task, s)))
    for unit in sharing.units:
        unit.register_forward_hook(lambda module, args, fused: rows.append(list(fused)))
    assert {task: len(pyramid) for task, pyramid in sharing(image).items()} == {
        "fine": 1,
        "middle": 2,
        "also": 2,
    }
    assert rows == [["fine", "middle", "also"], ["middle", "also"]]
    assert sorted({s for _, s in ran}) == [0, 1]
    ran.clear()
    sharing(image, ["fine"])
    assert ran == [("fine", 0), ("middle", 0), ("also", 0)]
    assert rows[2:] == [["fine"]]


@pytest.mark.parametrize("decoder", [FPN, BiFPN])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_some_tasks_only(
    scheme: type[StitchedTrunks], decoder: type[Decoder], image: torch.Tensor
) -> None:
    sharing = build(scheme, decoder=decoder, alpha=0.8).eval()
    ran: list[str] = []
    for task in LEVELS:
        sharing.trunk(task)[1].register_forward_hook(lambda *args, task=task: ran.append(task))
    rows: list[list[str]] = []
    sharing.units[3].register_forward_hook(lambda module, args, fused: rows.append(list(fused)))
    with torch.no_grad():
        full = sharing(image)
        for tasks in (["depth"], ["detection", "semseg"], []):
            ran.clear()
            some = sharing(image, tasks)
            assert list(some) == ran == [task for task in LEVELS if task in tasks]
            assert all(
                torch.equal(p, q)
                for task in some
                for p, q in zip(some[task], full[task], strict=True)
            )
    assert rows == [list(LEVELS), ["depth"], ["semseg", "detection"]]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_in_bfloat16(scheme: type[StitchedTrunks], image: torch.Tensor) -> None:
    sharing = build(scheme).to(memory_format=torch.channels_last)
    fused: list[torch.Tensor] = []
    sharing.units[1].register_forward_hook(lambda module, args, maps: fused.extend(maps.values()))
    with torch.autocast("cpu", torch.bfloat16):
        pyramids = sharing(image)
    assert {x.dtype for x in fused} == {torch.bfloat16}
    assert all(p.isfinite().all() for pyramid in pyramids.values() for p in pyramid)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_compiles_to_one_graph(scheme: type[StitchedTrunks], image: torch.Tensor) -> None:
    sharing = build(scheme, {"depth": ALL, "detection": (1, 2, 3)}).eval()
    compiled = torch.compile(sharing, backend="eager", fullgraph=True)
    found, expected = compiled(image, ["depth"]), sharing(image, ["depth"])
    assert all(torch.equal(p, q) for p, q in zip(found["depth"], expected["depth"], strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_state_dict_round_trip(scheme: type[StitchedTrunks], image: torch.Tensor) -> None:
    first, second = build(scheme, alpha=0.7).eval(), build(scheme).eval()
    second.load_state_dict(first.state_dict())
    found, expected = second(image), first(image)
    assert all(
        torch.equal(p, q)
        for task in found
        for p, q in zip(found[task], expected[task], strict=True)
    )


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_alpha_out_of_range(scheme: type[TrunkPerTask], alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"^{scheme.__name__}: alpha: must be .*, got {alpha}$"):
        build(scheme, alpha=alpha)


@pytest.mark.parametrize(("scheme", "usual"), [(CrossStitch, 10.0), (NDDR, 1.0)])
def test_learning_rate_of_the_units(scheme: type[TrunkPerTask], usual: float) -> None:
    assert build(scheme).lr_scale == usual
    assert build(scheme, lr_scale=7.0).lr_scale == 7.0
    assert build(IndependentSharing).lr_scale == 1.0
    for wrong in (0.0, -1.0, 1001.0):
        with pytest.raises(ValueError, match=rf"^{scheme.__name__}: lr_scale: must be [<>]=? "):
            build(scheme, lr_scale=wrong)


@pytest.mark.parametrize(("scheme", "name"), zip(SCHEMES, ["cross_stitch", "nddr"], strict=True))
def test_backbone_without_stages_is_refused(scheme: type[TrunkPerTask], name: str) -> None:
    works = f"^sharing {name} works between the stages of a backbone"
    message = f"{works}, and 'test_vit' has one body that cannot be cut"
    with pytest.raises(ValueError, match=message):
        build(scheme, backbone="test_vit")
