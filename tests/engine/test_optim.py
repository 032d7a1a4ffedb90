from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import nn

from visionmtl.engine.optim import Schedule, make_optimizer, parameter_groups
from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING
from visionmtl.types import TaskSpec


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    tasks = [TaskSpec.semseg(["a", "b"]), TaskSpec.depth(), TaskSpec.detection(["a"])]
    return create_model("test_resnet", tasks, decoder_options={"channels": 8})


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3, 3))


@pytest.mark.parametrize("sharing", SHARING)
def test_every_parameter_is_in_one_group(sharing: str) -> None:
    net = create_model(
        "test_resnet",
        [TaskSpec.depth(), TaskSpec.normals()],
        sharing,
        decoder_options={"channels": 8},
    )
    groups = parameter_groups(net, 0.1, 0.5, Learnt())
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert len(ids) == len(list(net.parameters())) + 1


def test_what_is_decayed_and_scaled(model: MultiTaskModel) -> None:
    weighting = Learnt()
    groups = {group["name"]: group for group in parameter_groups(model, 0.1, 0.5, weighting)}
    assert set(groups) == {"backbone", "backbone_no_decay", "new", "new_no_decay", "weighting"}
    for name, group in groups.items():
        plain = name in ("backbone", "new")
        assert group["weight_decay"] == (0.1 if plain else 0.0)
        assert group["lr_scale"] == (0.5 if name.startswith("backbone") else 1.0)
        if name != "weighting":
            assert all((p.ndim > 1) is plain for p in group["params"])
    assert groups["weighting"]["params"] == [weighting.scale]  # not decayed, though it is a matrix


def test_units_have_a_learning_rate_of_their_own() -> None:
    specs = [TaskSpec.depth(), TaskSpec.normals()]
    net = create_model("test_resnet", specs, "cross_stitch", decoder_options={"channels": 8})
    groups = {
        group["name"]: group
        for group in parameter_groups(net, 0.1, 0.5, nn.Module(), unit_lr_scale=10.0)
    }
    units = groups["units_no_decay"]
    assert (units["lr_scale"], units["weight_decay"]) == (10.0, 0.0)
    assert [id(p) for p in units["params"]] == [id(p) for p in net.sharing.unit_parameters()]
    net = create_model("test_resnet", specs, "nddr", decoder_options={"channels": 8})
    groups = {
        group["name"]: group
        for group in parameter_groups(net, 0.1, 0.5, nn.Module(), unit_lr_scale=10.0)
    }
    assert [groups[name]["weight_decay"] for name in ("units", "units_no_decay")] == [0.1, 0.0]


def test_weight_decay_per_task(model: MultiTaskModel) -> None:
    made = parameter_groups(
        model, 0.1, 0.5, nn.Module(), task_weight_decay={"depth": 0.3, "semseg": 0.0}
    )
    decays = {id(p): group["weight_decay"] for group in made for p in group["params"]}
    for task, expected in {"depth": 0.3, "semseg": 0.0, "detection": 0.1}.items():
        assert {decays[id(p)] for p in model.task_parameters(task) if p.ndim > 1} == {expected}
    assert {decays[id(p)] for p in model.shared_parameters() if p.ndim > 1} == {0.1}
    assert {decays[id(p)] for p in model.parameters() if p.ndim <= 1} == {0.0}


def test_frozen_parameters_are_left_out(model: MultiTaskModel) -> None:
    first = next(model.parameters())
    first.requires_grad_(False)
    groups = parameter_groups(model, 0.1, 1.0, nn.Module())
    first.requires_grad_(True)
    assert all(p is not first for group in groups for p in group["params"])


def test_unknown_optimiser_lists_a_few_names() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(2))]}]
    with pytest.raises(
        ValueError, match=r"optimizer.name: unknown optimiser 'AdamWW'; .*adamw"
    ) as caught:
        make_optimizer(groups, "AdamWW", 1e-3)
    assert len(str(caught.value)) < 120
    with pytest.raises(ValueError, match="adamw, sgd, lamb"):
        make_optimizer(groups, "?", 1e-3)


def test_optimiser_that_this_machine_cannot_make() -> None:
    if torch.cuda.is_available():
        pytest.skip("may be there")
    with pytest.raises(ValueError, match=r"optimizer\.name: 'bnbadamw' cannot be used here: "):
        make_optimizer([{"params": [nn.Parameter(torch.zeros(2))]}], "bnbadamw", 1e-3)


def rates(
    name: str, total: int, warmup: int, steps: list[int], min_scale: float = 0.1
) -> list[list[float]]:
    groups = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 1.0},
        {"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 0.5},
    ]
    optimizer = make_optimizer(groups, "sgd", 2.0)
    schedule = Schedule(optimizer, name, 2.0, total, warmup, min_scale)
    out = []
    for step in steps:
        schedule.set(step)
        out.append([group["lr"] for group in optimizer.param_groups])
    return out


@pytest.mark.parametrize(
    ("name", "half"), [("constant", 1.0), ("cosine", 0.1 + 0.9 / 2), ("poly", 0.1 + 0.9 * 0.5**0.9)]
)
def test_curve(name: str, half: float) -> None:
    last = 1.0 if name == "constant" else 0.1
    expected = [0.01, 0.01 + 0.99 * 3 / 4, 1.0, half, last, last]
    found = rates(name, total=24, warmup=4, steps=[0, 3, 4, 14, 24, 99])
    assert found == [[pytest.approx(2 * scale), pytest.approx(scale)] for scale in expected]


def test_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=0.2)
    for rate, _ in rates("cosine", total=10, warmup=0, steps=list(range(11))):
        assert math.isclose(rate, optimizer.param_groups[0]["lr"], rel_tol=1e-9)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("name", ["constant", "cosine", "poly"])
def test_shortest_runs_are_quiet(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert rates(name, total=1, warmup=5, steps=[0])[0][0] == 2.0
        assert rates(name, total=2, warmup=5, steps=[0, 1])[1][0] == 2.0
    assert not caplog.records


def test_the_first_rate_is_set_at_once() -> None:
    optimizer = make_optimizer(
        [{"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 1.0}], "sgd", 2.0
    )
    Schedule(optimizer, "cosine", 2.0, total_steps=10, warmup_steps=5, min_lr_scale=0.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
