"""Evaluating a finished model on any data set: what ``visionmtl eval`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from visionmtl.configfile import load_config
from visionmtl.data.folder import FolderDataset, list_splits
from visionmtl.data.loader import make_loader
from visionmtl.data.transforms import build_transform
from visionmtl.engine.build import build_dataset
from visionmtl.engine.errors import RunError, last_line
from visionmtl.engine.evaluator import evaluate
from visionmtl.engine.logging import json_safe
from visionmtl.engine.progress import ProgressBar, say
from visionmtl.files import write_atomic
from visionmtl.inference import Size
from visionmtl.metrics.multitask import format_table
from visionmtl.types import BoxTarget, DenseTarget, MultiTaskDataset, Sample, Target, TaskSpec
from visionmtl.zoo import load_model


def open_splits(source: str) -> dict[str, MultiTaskDataset]:
    """Every split of a folder data set, or the two splits of a config, by name.

    Raises:
        ValueError: a folder without splits, or one of the data sets cannot be opened.
    """
    if Path(source).is_dir():
        if not (splits := list_splits(source)):
            raise ValueError(f"{source}: no data set, no folder in it has a folder rgb")
        return {split: FolderDataset(source, split) for split in splits}
    config = load_config(source)
    return {split: build_dataset(config, split) for split in ("train", "val")}


def evaluation_data(model: str, config: str | None, root: str | None, split: str) -> MultiTaskDataset:
    """The data set to evaluate on: ``root`` and ``split``, or a config's validation split, or that of the run itself.

    Raises:
        ValueError: neither is given and ``model`` is no run folder, or both are.
    """
    if root is not None and config is not None:
        raise ValueError("give either a config or --data, not both")
    if root is not None:
        return FolderDataset(root, split)
    own = Path(model) / "config.yaml"
    if config is None and not own.is_file():
        raise ValueError(f"{model}: no data to evaluate on; give --data ROOT --split S, or a config")
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

    Tasks are matched by name, classes by name within them; depth is evaluated within the data set's range.

    Raises:
        ValueError: no such model, or tasks and classes that do not match.
        RunError: a sample that cannot be read, a result that cannot be written.
    """
    model = load_model(name).to(device)
    if json_path is not None and (json_path.is_dir() or not json_path.parent.is_dir()):
        raise ValueError(f"--json: {str(json_path)!r} is a folder, or lies in none")
    matched = MatchedDataset(dataset, model.tasks, tasks)
    if left_out := [spec.name for spec in model.tasks if spec.name not in matched.names]:
        console.print(f"not evaluated, the data has no such labels or they were not asked for: {', '.join(left_out)}")
    loader, _ = make_loader(
        matched, matched.tasks, build_transform(matched.tasks, []), batch_size=batch_size, train=False, workers=workers
    )
    try:
        with ProgressBar(console, "evaluate", len(loader)) as advance:
            results = evaluate(
                model, loader, device, tasks=matched.tasks, size=size, on_batch=lambda batch, predictions: advance(1)
            )
        assert results is not None
        console.print(format_table(results, matched.tasks))
        if json_path is not None:
            write_atomic(json_path, (json.dumps(json_safe(results), indent=2) + "\n").encode())
            say(console, f"results {json_path}")
    except torch.OutOfMemoryError as error:
        raise RunError(f"out of memory on {device}; lower --batch-size or --size") from error
    except (ValueError, OSError, RuntimeError) as error:
        raise RunError(last_line(error)) from error
    return results


class MatchedDataset:
    """A data set with the tasks and the class ids of a model.

    Args:
        dataset: what it reads from.
        model_tasks: tasks of the model.
        names: the tasks to keep; None for all that both have.

    Raises:
        ValueError: no common task, an asked task that one side lacks, or classes that differ (both are listed).
    """

    def __init__(
        self, dataset: MultiTaskDataset, model_tasks: Sequence[TaskSpec], names: Sequence[str] | None = None
    ) -> None:
        self.dataset = dataset
        own = {spec.name: spec for spec in dataset.tasks}
        common = [spec for spec in model_tasks if spec.name in own]
        listed = f"the model has {[spec.name for spec in model_tasks]}, the data {list(own)}"
        if names is not None:
            if lacking := [name for name in names if name not in [spec.name for spec in common]]:
                raise ValueError(f"--tasks: {lacking} cannot be evaluated; {listed}")
            common = [spec for spec in common if spec.name in names]
        if not common:
            raise ValueError(f"model and data have no task in common; {listed}")
        self.tasks = [_matched(spec, own[spec.name]) for spec in common]
        self.names = [spec.name for spec in self.tasks]
        self._maps = {spec.name: _class_map(spec, own[spec.name]) for spec in self.tasks if spec.classes}

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        targets = {name: self._mapped(name, sample.targets[name]) for name in self.names if name in sample.targets}
        return Sample(sample.image, targets, sample.sample_id, sample.camera)

    def _mapped(self, name: str, target: Target) -> Target:
        if name not in self._maps:
            return target
        if isinstance(target, BoxTarget):
            return BoxTarget(target.boxes, self._maps[name][target.labels])
        ids = self._maps[name].astype(np.uint8)[target.value]
        return DenseTarget(np.where(target.valid, ids, np.uint8(0)), target.valid)


def _matched(model: TaskSpec, data: TaskSpec) -> TaskSpec:
    if model.kind != data.kind:
        raise ValueError(f"task {model.name!r}: the model predicts {model.kind}, the data has {data.kind}")
    if set(model.classes) != set(data.classes):
        raise ValueError(
            f"task {model.name!r}: the classes differ; the model has [{', '.join(model.classes)}], "
            f"the data [{', '.join(data.classes)}]"
        )
    return data if model.kind == "depth" else model


def _class_map(model: TaskSpec, data: TaskSpec) -> np.ndarray:
    """Class ids of the data -> class ids of the model, int64."""
    return np.array([model.classes.index(name) for name in data.classes], dtype=np.int64)
