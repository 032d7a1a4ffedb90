"""The model card that a run writes beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionmtl.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained, and how good it is; plain values.

    Attributes:
        metrics: results on the validation data, by task and key; None for NaN.
        data: type of the training data.
        source: the data in a few words, Markdown.
        split: name of the validation split.
        command: what was typed.
        hardware: what it ran on.
        training_minutes: spent in training and evaluation.
        epochs: that were trained.
        best_epoch: after which the weights were taken, because validation was best then.
        seed: of the run.
        visionmtl_version: that trained it.
    """

    metrics: dict[str, Any]
    data: str
    source: str
    split: str
    command: str
    hardware: str
    training_minutes: float
    epochs: int
    best_epoch: int
    seed: int
    visionmtl_version: str


CARD = """\
# {backbone}, {num_tasks} tasks, {sharing} sharing

{tasks}

## Validation

On split `{record.split}` of {record.source}; the checkpoint was chosen on this split.
Shares, IoU, F and AP are in percent, angles in degrees, depth in metres.

| task | metric | value |
|---|---|---|
{results}

## Training

`{record.command}` on {record.hardware}, {record.training_minutes} minutes,
visionmtl {record.visionmtl_version}, seed {record.seed}, {record.epochs} epochs of {record.source}.
The weights are those after epoch {record.best_epoch}.

## Use

```python
from visionmtl import load_model, predict

result = predict(load_model("path/to/this/folder"), "photo.jpg")
```
"""


def model_card(model: MultiTaskModel, record: TrainingRecord) -> str:
    """Markdown: what the model predicts, how good it is on validation, how it was made, how to use
    it.
    """
    tasks = []
    results = []
    for spec in model.tasks:
        what = ", ".join(spec.classes) or spec.kind.describe()
        tasks.append(f"- **{spec.name}** ({spec.kind.name}): {what}".removesuffix(": "))
        for key in spec.kind.metric.higher_is_better_by_key:
            value = _number(record.metrics[spec.name], key)
            results.append(f"| {spec.name} | {key} | {value} |")
    return CARD.format(
        backbone=model.config["backbone"],
        num_tasks=len(model.tasks),
        sharing=model.config["sharing"],
        tasks="\n".join(tasks),
        results="\n".join(results),
        record=record,
    )


def _number(values: Mapping[str, float | None], key: str) -> str:
    value = values[key]
    if value is None:
        return "n/a"
    return f"{value:.3f}"
