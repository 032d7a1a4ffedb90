from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from visionmtl.config import Config
from visionmtl.data.rooms import RoomsDataset
from visionmtl.engine.build import (
    build_criterion,
    build_dataset,
    build_model,
    build_transforms,
    build_weighting,
    fingerprint,
)
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
        ("losses={detph: {}}", r"losses: unknown tasks \['detph'\]; the run has \['semseg', 'depth'\]"),
        ("weighting.weights={normals: 1.0}", r"weighting.weights: unknown tasks \['normals'\]"),
    ],
)
def test_unknown_tasks(make_config: MakeConfig, override: str, message: str) -> None:
    config = make_config(override)
    tasks = build_dataset(config, "train").tasks
    with pytest.raises(ValueError, match=message):
        (build_criterion(config, tasks), build_weighting(config, tasks))


def test_transforms_of_both_splits(make_config: MakeConfig) -> None:
    dataset = build_dataset(make_config(), "train")
    transforms = build_transforms(make_config("data.transforms.train=[{type: resize, size: [32, 48]}]"), dataset.tasks)
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
