from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visionmtl.config import Config
from visionmtl.engine.build import build_dataset, build_model
from visionmtl.engine.card import model_card
from visionmtl.tasks import TASKS


def test_card(make_config: Callable[..., Config]) -> None:
    config = make_config()
    model = build_model(config, build_dataset(config, "train").tasks)
    metrics: dict[str, Any] = {
        spec.name: dict.fromkeys(TASKS[spec.kind].metric.higher_is_better_by_key, 12.3456) for spec in model.tasks
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
