from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from visionmtl._yaml import ConfigError
from visionmtl.balancing import CAGrad, Sum
from visionmtl.balancing.backward import Balance
from visionmtl.config.schema import Config
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.engine.build import (
    build_balance,
    build_criterion,
    build_model,
    build_weighting,
)
from visionmtl.engine.datasets import build_dataset, build_transforms, fingerprint
from visionmtl.engine.distributed import World
from visionmtl.losses.depth import BerHuLoss, SILogLoss

MakeConfig = Callable[..., Config]


def test_datasets_follow_the_config(make_config: MakeConfig) -> None:
    config = make_config("data.train.drop_labels={depth: 1.0}", "tasks=[depth, semseg]")
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert [spec.name for spec in train.tasks] == ["depth", "semseg"]
    assert (len(train), len(val)) == (12, 3)
    assert train[0].image.shape == (64, 64, 3)
    assert list(train[0].targets) == ["semseg"]
    assert {train.sample_id(i) for i in range(12)}.isdisjoint(val.sample_id(i) for i in range(3))


def test_model_depends_on_the_seed_alone(make_config: MakeConfig) -> None:
    tasks = build_dataset(make_config(), "train").tasks
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a = build_model(make_config(), tasks)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    b, other = build_model(make_config(), tasks), build_model(make_config("seed=1"), tasks)
    pairs = list(zip(a.parameters(), b.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y, _ in pairs)
    assert not all(torch.equal(x, z) for x, _, z in pairs)


def test_losses_and_weights_by_task(make_config: MakeConfig) -> None:
    tasks = build_dataset(make_config(), "train").tasks
    config = make_config("losses={depth: {type: silog}}", "weighting.weights={depth: 3}")
    assert isinstance(build_criterion(config, tasks).losses[1], SILogLoss)
    assert build_weighting(config, tasks)(torch.tensor([1.0, 10.0]), [True, True]).item() == 31
    config = make_config("losses={depth: {type: berhu}}")
    assert isinstance(build_criterion(config, tasks).losses[1], BerHuLoss)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "losses={detph: {}}",
            r"losses: unknown tasks \['detph'\]; the run has \['semseg', 'depth'\]",
        ),
        ("weighting.weights={normals: 1.0}", r"weighting.weights: unknown tasks \['normals'\]"),
    ],
)
def test_unknown_tasks(make_config: MakeConfig, override: str, message: str) -> None:
    config = make_config(override)
    tasks = build_dataset(config, "train").tasks
    with pytest.raises(ValueError, match=message):
        (build_criterion(config, tasks), build_weighting(config, tasks))


@pytest.fixture
def balance(make_config: MakeConfig) -> Callable[..., Balance | None]:
    def build(*overrides: str) -> Balance | None:
        config = make_config(*overrides)
        tasks = build_dataset(config, "train").tasks
        return build_balance(
            config, build_model(config, tasks), build_weighting(config, tasks), World()
        )

    return build


def test_balancing_by_name(balance: Callable[..., Balance | None]) -> None:
    made = balance("balancing={type: cagrad, c: 0.2, scope: features, every: 4}")
    assert made is not None
    assert isinstance(made.balancer, CAGrad)
    assert (made.balancer.c, made.scope, made.every) == (0.2, "features", 4)
    watched = balance("weighting={type: gradnorm}")
    assert watched is not None
    assert isinstance(watched.balancer, Sum)
    assert balance() is None
    assert balance("weighting={type: famo}") is None
    assert balance("balancing={type: cagrad}", "tasks=[depth]", "model.heads={}") is None
    assert balance("balancing={type: sum}", "weighting={type: famo}") is not None
    assert balance("balancing={type: fairgrad, alpha: 3}") is not None  # an integer is a number


REFUSED = {
    "balancing={type: cagrad, d: 0.2}": "balancing.d: unknown key; known: type, scope, every, c",
    "balancing={type: cagrad, c: 1.2}": "balancing.c: must be < 1, got 1.2",
    "balancing={type: cagrad, c: x}": "balancing.c: must be a number, got 'x'",
    "balancing={type: cagrad, c: true}": "balancing.c: must be a number, got true",
    "balancing={type: mgda, c: 0.2}": "balancing.c: unknown key; it is an option of type cagrad",
    "balancing={type: torchjd, name: 3}": "balancing.name: must be a string, got 3",
    "balancing={type: torchjd}": "balancing.name: required key is missing",
    "weighting={type: dwa, t: 2}": "weighting.t: unknown key; known: type, temperature",
    "weighting={type: dwa, temperature: -2}": "weighting.temperature: must be > 0, got -2",
    "weighting={type: dwa, temperature: hot}": "weighting.temperature: must be a number, got 'hot'",
    "weighting={type: stch, warmup_epochs: 2.5}": (
        "weighting.warmup_epochs: must be an integer, got 2.5"
    ),
    "weighting={type: famo, second_forward: 1}": (
        "weighting.second_forward: must be true or false, got 1"
    ),
    "weighting={type: famo, min_losses: 3}": "weighting.min_losses: must be a list, got 3",
    "weighting={type: famo, min_losses: [0, x]}": (
        "weighting.min_losses.1: must be a number, got 'x'"
    ),
    "losses={depth: {threshold: 0.1}}": (
        "losses.depth.threshold: unknown key; it is an option of type berhu"
    ),
    "losses.depth={type: silog, alpha: 0}": "losses.depth.alpha: must be > 0, got 0",
    "losses.depth={dice: '1'}": "losses.depth.dice: must be a number, got '1'",
    "model.heads.depth.channels=x": "model.heads.depth.channels: must be an integer, got 'x'",
    "model.heads.depth={type: depht}": "model.heads.depth.type: unknown value 'depht'; known: ",
    "model.sharing={type: hard, alpha: 1}": (
        "model.sharing.alpha: unknown key; it is an option of type "
    ),
    "model.sharing={type: nddr, lr_scale: 0}": "model.sharing.lr_scale: must be > 0, got 0",
    "model.decoder={channels: 4}": "model.decoder.channels: must be >= 8, got 4",
}
"""Override -> the line that it gets before anything is built."""


@pytest.mark.parametrize("override", REFUSED)
def test_options_that_are_refused(override: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(override)
    assert str(caught.value).startswith(f"override {REFUSED[override]}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["weighting={type: famo, min_losses: [3]}"],
            r"^weighting\.min_losses must be one .* of 2 tasks, got \[3\.0\]$",
        ),
        (["balancing={type: torchjd, name: None}"], "^balancing: TorchJD"),
        (
            ["weighting={type: famo}", "balancing={type: pcgrad}"],
            "^weighting famo learns from .* balancing pcgrad",
        ),
        (
            ["weighting={type: gradnorm}", "balancing={type: pcgrad}"],
            "^weighting gradnorm .* balancing pcgrad",
        ),
        (
            ["balancing={type: pcgrad}", "model.sharing={type: independent}"],
            "^balancing needs .* that tasks share",
        ),
        (
            ["weighting={type: gradnorm}", "model.sharing={type: independent}"],
            "^weighting gradnorm: .* that tasks share",
        ),
        (
            ["balancing={type: pcgrad, scope: features}", "model.sharing={type: cross_stitch}"],
            "use scope parameters$",
        ),
    ],
)
def test_methods_that_are_refused(
    overrides: list[str], message: str, balance: Callable[..., Balance | None]
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        balance(*overrides)
    assert "\n" not in str(caught.value)


def test_transforms_of_both_splits(make_config: MakeConfig) -> None:
    dataset = build_dataset(make_config(), "train")
    transforms = build_transforms(
        make_config("data.transforms.train=[{type: resize, size: [32, 48]}]"), dataset.tasks
    )
    assert transforms["train"](dataset[0], 0).image.shape == (32, 48, 3)
    assert transforms["val"](dataset[0], 0).image.shape == (64, 64, 3)


def test_fingerprint() -> None:
    data = RoomsDataset(3, (32, 32), tasks=["depth"])
    assert fingerprint(data) == fingerprint(RoomsDataset(3, (32, 32), tasks=["depth"]))
    others = [
        RoomsDataset(4, (32, 32), tasks=["depth"]),
        RoomsDataset(3, (32, 32), tasks=["normals"]),
        RoomsDataset(3, (32, 32), seed=1, tasks=["depth"]),
    ]
    assert len({fingerprint(d) for d in [data, *others]}) == 4
