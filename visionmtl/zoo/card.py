"""The model card that a run writes beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.models.multitask import MultiTaskModel


def model_card(model: MultiTaskModel, config: Config, record: Mapping[str, Any]) -> str:
    """Markdown: what the model predicts, how good it is on validation, how it was made, how to use
    it.
    """
    tasks = [
        f"- **{spec.name}** ({spec.kind.name}): {', '.join(spec.classes) or spec.kind.describe()}"
        for spec in model.tasks
    ]
    tasks = [line.removesuffix(": ") for line in tasks]
    rows = [
        f"| {spec.name} | {key} | {_number(record['metrics'][spec.name][key])} |"
        for spec in model.tasks
        for key in spec.kind.metric.higher_is_better_by_key
    ]
    parts = sources(config.data)
    data = " and ".join(
        "the procedural rooms of visionmtl" if p.root is None else f"`{p.root}`" for p in parts
    )
    split = ", ".join(dict.fromkeys(p.val if isinstance(p.val, str) else "val" for p in parts))
    return "\n".join(
        [
            f"# {config.model.backbone.name}, {len(model.tasks)} tasks, {config.model.sharing.type} sharing",
            "",
            *tasks,
            "",
            "## Validation",
            "",
            f"On split `{split}` of {data}; the checkpoint was chosen on this split.",
            "Shares, IoU, F and AP are in percent, angles in degrees, depth in metres.",
            "",
            "| task | metric | value |",
            "|---|---|---|",
            *rows,
            "",
            "## Training",
            "",
            f"`{record['command']}` on {record['hardware']}, {record['training_minutes']} minutes,",
            f"visionmtl {record['visionmtl_version']}, seed {config.seed}, {config.trainer.epochs} epochs of {data}.",
            "",
            "## Use",
            "",
            "```python",
            "from visionmtl import load_model, predict",
            "",
            'result = predict(load_model("path/to/this/folder"), "photo.jpg")',
            "```",
            "",
        ]
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
