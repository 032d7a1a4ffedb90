"""What a config says about sharing, in a run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visionmtl.config.schema import Config
from visionmtl.engine.build import (
    build_model,
    build_parameter_groups,
    build_weighting,
)
from visionmtl.engine.datasets import build_dataset
from visionmtl.engine.trainer import Trainer
from visionmtl.zoo.folder import save_model

MakeConfig = Callable[..., Config]
MakeTrainer = Callable[..., Trainer]


def first_gradients(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The gradients that the first optimiser step sees."""
    seen: list[list[Tensor]] = []
    step = trainer.parts.optimizer.step

    def look(*args: Any) -> Any:
        seen.append(
            [
                torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for p in trainer.model.parameters()
            ]
        )
        return step(*args)

    monkeypatch.setattr(trainer.parts.optimizer, "step", look)
    trainer.fit()
    return seen[0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_penalty_enters_the_gradient_once_per_step(
    accumulate: int, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (f"trainer.accumulate={accumulate}", "trainer.clip_grad=null", "trainer.epochs=1")
    options = {"limit_batches": 2}
    alone = make_trainer(tmp_path / "a", *common, "model.sharing={type: independent}", **options)
    sharing = "model.sharing={type: independent, penalty: l2_distance, penalty_weight: 0.5}"
    pulled = make_trainer(tmp_path / "b", *common, sharing, **options)
    parameters = list(pulled.model.parameters())
    penalty = pulled.model.sharing.penalty()
    expected = torch.autograd.grad(penalty, parameters, allow_unused=True)
    pairs = zip(
        first_gradients(pulled, monkeypatch),
        first_gradients(alone, monkeypatch),
        expected,
        strict=True,
    )
    for ours, plain, extra in pairs:
        wanted = plain if extra is None else plain + extra
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_logged_without_a_warning(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    sharing = "model.sharing={type: independent, penalty: trace_norm}"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_trainer(tmp_path / "run", sharing, "trainer.epochs=1").fit()
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(record["penalty"] > 0 for record in records if "loss" in record)


def test_a_penalty_needs_two_tasks(make_config: MakeConfig) -> None:
    config = make_config(
        "model.sharing={type: independent, penalty: trace_norm}", "tasks=[depth]", "model.heads={}"
    )
    tasks = build_dataset(config, "train").tasks
    message = r"^model.sharing.penalty: needs at least two tasks, the model has \['depth'\]$"
    with pytest.raises(ValueError, match=message):
        build_model(config, tasks)


def test_options_of_the_scheme_reach_model_and_optimiser(make_config: MakeConfig) -> None:
    config = make_config(
        "model.sharing={type: cross_stitch, alpha: 0.75, lr_scale: 7}",
        "optimizer.task_weight_decay={depth: 0.3}",
    )
    tasks = build_dataset(config, "train").tasks
    model = build_model(config, tasks)
    unit = model.sharing.unit_parameters()[0]
    assert unit[:, :, 0].tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert model.config["sharing_options"] == {"alpha": 0.75, "lr_scale": 7.0}
    groups = {
        group["name"]: group
        for group in build_parameter_groups(config, model, build_weighting(config, tasks))
    }
    assert groups["units_no_decay"]["lr_scale"] == 7
    assert groups["new_depth"]["weight_decay"] == 0.3


def test_weight_decay_of_a_task_that_is_not_there(make_config: MakeConfig) -> None:
    config = make_config("optimizer.task_weight_decay={normals: 0.3}")
    tasks = build_dataset(config, "train").tasks
    with pytest.raises(
        ValueError, match=r"^optimizer.task_weight_decay: unknown tasks \['normals'\]"
    ):
        build_parameter_groups(config, build_model(config, tasks), build_weighting(config, tasks))


def test_a_run_starts_from_single_tasks_and_resumes_without_them(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    single = make_trainer(
        tmp_path / "single", "tasks=[depth]", "model.heads={depth: {channels: 8}}"
    ).model
    save_model(single, tmp_path / "depth")
    options = (
        "model.sharing={type: cross_stitch}",
        f"model.init_from={{depth: {tmp_path / 'depth'}}}",
    )
    trainer = make_trainer(tmp_path / "run", *options, "trainer.epochs=1")
    trunk, trained = trainer.model.sharing.trunk("depth"), single.sharing.trunk("depth")
    for own, there in zip(trunk, trained, strict=True):
        assert all(
            torch.equal(p, q) for p, q in zip(own.parameters(), there.parameters(), strict=True)
        )
    trainer.fit()
    for file in (tmp_path / "depth").iterdir():
        file.unlink()
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert (
        make_trainer(tmp_path / "run", *options, "trainer.epochs=1", resume=last).progress.epoch
        == 1
    )
