"""Evaluating a finished model on any data set: what ``visionmtl eval`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from visionmtl._console import ProgressBar, say
from visionmtl._errors import RunError, last_line
from visionmtl._files import write_atomic
from visionmtl.config.load import load_config
from visionmtl.data.loader import make_loader
from visionmtl.data.matched import match_model
from visionmtl.data.transforms.joint import build_transform
from visionmtl.engine.datasets import build_dataset, open_folder
from visionmtl.engine.evaluate import evaluate
from visionmtl.engine.logging import json_safe
from visionmtl.metrics.table import format_table
from visionmtl.prediction.infer import Size
from visionmtl.types import MultiTaskDataset
from visionmtl.zoo.load import load_model


def evaluation_data(
    model: str, config: str | None, root: str | None, split: str
) -> MultiTaskDataset:
    """The data set to evaluate on: ``root`` and ``split``, or a config's validation split, or that
    of the run itself.

    Raises:
        ValueError: neither is given and ``model`` is no run folder, or both are.
    """
    if root is not None and config is not None:
        raise ValueError("give either a config or --data, not both")
    if root is not None:
        return open_folder(root, split)
    own = Path(model) / "config.yaml"
    if config is None and not own.is_file():
        load_model(model)  # says so where there is no such model
        raise ValueError(
            f"{model}: no data to evaluate on; give --data ROOT --split S, or a config"
        )
    return build_dataset(load_config(config or own), "val")


def evaluate_model(
    name: str | Path,
    dataset: MultiTaskDataset,
    *,
    device: torch.device,
    tasks: Sequence[str] | None = None,
    json_path: Path | None = None,
    size: Size = None,
    batch_size: int = 1,
    workers: int = 0,
    console: Console,
) -> dict[str, Any]:
    """Evaluate a model on every sample, print a table, write JSON.

    Tasks are matched by name, classes by name within them; depth is evaluated within the data set's
    range.

    Raises:
        ValueError: no such model, or tasks and classes that do not match.
        RunError: a sample that cannot be read, a result that cannot be written.
    """
    model = load_model(name).to(device)
    if json_path is not None and (json_path.is_dir() or not json_path.parent.is_dir()):
        raise ValueError(f"--json: {str(json_path)!r} is a folder, or lies in none")
    matched = match_model(dataset, model.tasks, tasks)
    evaluated = [spec.name for spec in matched.tasks]
    left_out = [spec.name for spec in model.tasks if spec.name not in evaluated]
    if left_out:
        console.print(
            "not evaluated, the data has no such labels or they were not asked for: "
            + ", ".join(left_out)
        )
    loader, _ = make_loader(
        matched,
        matched.tasks,
        build_transform(matched.tasks, []),
        batch_size=batch_size,
        train=False,
        workers=workers,
    )
    try:
        with ProgressBar(console, "evaluate", len(loader)) as advance:
            results = evaluate(
                model,
                loader,
                device,
                tasks=matched.tasks,
                size=size,
                on_batch=lambda batch, predictions: advance(1),
            )
        assert results is not None
        console.print(format_table(results, matched.tasks))
        if json_path is not None:
            text = json.dumps(json_safe(results), indent=2) + "\n"
            write_atomic(json_path, text.encode())
            say(console, f"results {json_path}")
    except torch.OutOfMemoryError as error:
        raise RunError(f"out of memory on {device}; lower --batch-size or --size") from error
    except (ValueError, OSError, RuntimeError) as error:
        raise RunError(last_line(error)) from error
    return results
