from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.engine.build import build_model
from visionmtl.engine.datasets import build_dataset
from visionmtl.tasks import TASKS
from visionmtl.types import TaskSpec
from visionmtl.zoo.card import model_card


def test_card(make_config: Callable[..., Config]) -> None:
    config = make_config()
    model = build_model(config, build_dataset(config, "train").tasks)
    metrics: dict[str, Any] = {
        spec.name: dict.fromkeys(TASKS[spec.kind].metric.higher_is_better_by_key, 12.3456)
        for spec in model.tasks
    }
    metrics["depth"]["rmse"] = None
    record = {
        "metrics": metrics,
        "command": "visionmtl train a.yaml",
        "hardware": "a machine",
        "training_minutes": 1.5,
        "visionmtl_version": "0.1.0",
    }
    card = model_card(model, config, record)
    assert "# test_resnet, 2 tasks, hard sharing" in card
    assert "- **depth** (depth): 0 to 10 m" in card
    assert "| semseg | miou | 12.346 |" in card
    assert "| depth | rmse | n/a |" in card
    assert "`visionmtl train a.yaml` on a machine, 1.5 minutes" in card
    assert "load_model" in card


def test_card_of_a_mixture(make_config: Callable[..., Config], mixture: tuple[str, ...]) -> None:
    config = make_config(*mixture, "data.sets.1.val='train[80%:]'")
    tasks = [*build_dataset(config, "train").tasks, TaskSpec.disparity(64)]
    model = build_model(make_config(*mixture, "model.heads={}"), tasks)
    metrics = {
        spec.name: dict.fromkeys(TASKS[spec.kind].metric.higher_is_better_by_key, 12.3456)
        for spec in model.tasks
    }
    record = {
        "metrics": metrics,
        "command": "a",
        "hardware": "b",
        "training_minutes": 1,
        "visionmtl_version": "c",
    }
    card = model_card(model, config, record)
    assert "- **disparity** (disparity): 0 to 64\n" in card
    roots = [part.root for part in sources(config.data) if part.root is not None]
    assert f"`{roots[0]}` and `{roots[1]}`" in card
    assert "val, train[80%:]" in card
