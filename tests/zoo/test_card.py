from __future__ import annotations

from typing import Any

from visionmtl.models.factory import create_model
from visionmtl.types import TaskSpec
from visionmtl.zoo.card import TrainingRecord, model_card


def test_card() -> None:
    tasks = [TaskSpec.semseg(["a", "b"]), TaskSpec.depth(), TaskSpec.disparity(64)]
    model = create_model("test_resnet", tasks, decoder_options={"channels": 8})
    metrics: dict[str, Any] = {}
    for spec in tasks:
        metrics[spec.name] = dict.fromkeys(spec.kind.metric.higher_is_better_by_key, 12.3456)
    metrics["depth"]["rmse"] = None
    record = TrainingRecord(
        metrics=metrics,
        data="rooms",
        source="the procedural rooms of visionmtl",
        split="val",
        command="visionmtl train a.yaml",
        hardware="a machine",
        training_minutes=1.5,
        epochs=7,
        best_epoch=5,
        seed=3,
        visionmtl_version="0.1.0",
    )
    card = model_card(model, record)
    assert "# test_resnet, 3 tasks, hard sharing" in card
    assert "- **semseg** (semseg): a, b\n" in card
    assert "- **depth** (depth): 0 to 10 m" in card
    assert "- **disparity** (disparity): 0 to 64\n" in card
    assert "| semseg | miou | 12.346 |" in card
    assert "| depth | rmse | n/a |" in card
    assert "`visionmtl train a.yaml` on a machine, 1.5 minutes" in card
    assert "seed 3, 7 epochs of the procedural rooms of visionmtl.\n" in card
    assert "The weights are those after epoch 5.\n" in card
    assert "load_model" in card
