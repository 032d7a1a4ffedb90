"""A finished run folder as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from visionmtl._files import read_json
from visionmtl.config.load import load_config
from visionmtl.config.schema import Config
from visionmtl.engine.logging import read_metrics
from visionmtl.tasks import TaskSpec


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: where it lies.
        config: of the run.
        model: ``MultiTaskModel.config``.
        tasks: in their order.
        results: of the last evaluation, by task and key; nan where a value was not defined.
        samples: of the validation split that were evaluated.
        images_per_second: median over the epochs of training; nan if it was not recorded.
        minutes: of training and evaluation; nan if it was not recorded.
        hardware: it was trained on; empty if it was not recorded.
    """

    folder: Path
    config: Config
    model: dict[str, Any]
    tasks: list[TaskSpec]
    results: dict[str, dict[str, float]]
    samples: int
    images_per_second: float
    minutes: float
    hardware: str


def read_run(folder: Path) -> Run:
    """Read a run folder. Only its text files are needed: ``config.yaml``, ``metrics.jsonl``,
    ``model/config.json``.

    Raises:
        ValueError: one line that names the folder: it is none, or of a run that is not finished.
    """
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: no run folder, it has no config.yaml")
    config = load_config(folder / "config.yaml")
    records = read_metrics(folder / "metrics.jsonl")
    evaluations = [record for record in records if record["split"] == "val"]
    if not evaluations:
        raise ValueError(
            f"{folder}: its metrics.jsonl has no evaluation, there is nothing to compare"
        )
    last = evaluations[-1]
    if last["epoch"] < config.trainer.epochs:
        done = f"{last['epoch']} of {config.trainer.epochs} epochs are evaluated"
        raise ValueError(
            f"{folder}: the run is not finished, {done}; continue it with train --resume auto"
        )
    model, tasks, record = _model(folder / "model" / "config.json")
    return Run(
        folder=folder,
        config=config,
        model=model,
        tasks=tasks,
        results={spec.name: _values(folder, last, spec) for spec in tasks},
        samples=int(last.get("samples", {}).get("total", 0)),
        images_per_second=_speed(records),
        minutes=float(record.get("training_minutes", math.nan)),
        hardware=str(record.get("hardware", "")),
    )


def _model(path: Path) -> tuple[dict[str, Any], list[TaskSpec], dict[str, Any]]:
    content = read_json(path)
    try:
        model = dict(content["model"])
        record = dict(content.get("record", {}))
        return model, [TaskSpec.from_dict(task) for task in content["tasks"]], record
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not the config.json of a model folder ({error})") from error


def _values(folder: Path, evaluation: Mapping[str, Any], spec: TaskSpec) -> dict[str, float]:
    """The values that are reported for a task; JSON has null for nan."""
    logged = evaluation.get(spec.name, {})
    values = {}
    for key in spec.kind.metric.higher_is_better_by_key:
        if key not in logged:
            raise ValueError(
                f"{folder}: the last evaluation in its metrics.jsonl has no {spec.name}.{key}"
            )
        values[key] = math.nan
        if logged[key] is not None:
            values[key] = float(logged[key])
    return values


def _speed(records: list[dict[str, Any]]) -> float:
    epochs = [record for record in records if record["split"] == "speed"]
    if not epochs:
        return math.nan
    return median(float(record["images_per_second"]) for record in epochs)
