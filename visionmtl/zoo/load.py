"""The way from a name or a path to a loaded model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from visionmtl.models.multitask import MultiTaskModel
from visionmtl.zoo.checkpoints import load_checkpoint
from visionmtl.zoo.fetch import fetch
from visionmtl.zoo.folder import CONFIG, load_model_folder, restore_model
from visionmtl.zoo.registry import ModelEntry, read_registry


def list_models() -> list[str]:
    """Names of the zoo, sorted."""
    return sorted(read_registry())


def load_model(name_or_path: str | Path) -> MultiTaskModel:
    """A trained model, float32, in eval mode, on the CPU.

    Args:
        name_or_path: a name of the zoo, a model folder, a run folder or a training checkpoint
            ``*.pt``. A name of the zoo wins over a folder of the same name, unless it is given as a
            ``Path``. Checkpoints are read with ``weights_only=True``, so nothing in them is
            executed; their EMA weights are preferred.

    Raises:
        ValueError: nothing of that kind is there, or it is damaged or of another version.
        OSError: a download failed.
    """
    registry = read_registry()
    if isinstance(name_or_path, str) and name_or_path in registry:
        return load_entry(registry[name_or_path])
    path = os.path.expanduser(name_or_path)
    if path and os.path.isfile(os.path.join(path, CONFIG)):
        return load_model_folder(Path(path))
    if path and os.path.isfile(os.path.join(path, "model", CONFIG)):
        return load_model_folder(Path(path) / "model")
    if path.endswith(".pt") and os.path.isfile(path):
        return _load_checkpoint(Path(path))
    there = "does not exist"
    if path and os.path.lexists(path):
        there = "is none of these"
    raise ValueError(
        f"{str(name_or_path)!r}: looked for a zoo name, a model folder ({CONFIG}), a run folder "
        f"(model/{CONFIG}) or a checkpoint file (*.pt), it {there}; "
        f"{_known(str(name_or_path), list(registry))}"
    )


def find_entry(name: str) -> ModelEntry:
    """The entry of a model of the zoo.

    Raises:
        ValueError: there is no such model.
    """
    registry = read_registry()
    if name not in registry:
        raise ValueError(f"no model {name!r} in the zoo; {_known(name, list(registry))}")
    return registry[name]


def load_entry(entry: ModelEntry) -> MultiTaskModel:
    """A published model, see ``load_model``."""
    model = load_model_folder(fetch(entry))
    tasks = tuple(task.name for task in model.tasks)
    if tasks != entry.tasks:
        raise ValueError(
            f"{entry.name}: the registry lists the tasks {entry.tasks}, the model has {tasks}"
        )
    return model


def _load_checkpoint(path: Path) -> MultiTaskModel:
    checkpoint = load_checkpoint(path)
    config = checkpoint.get("model_config")
    tasks = checkpoint.get("tasks")
    state = checkpoint.get("ema") or checkpoint.get("model")
    if not (isinstance(config, Mapping) and isinstance(tasks, list) and isinstance(state, Mapping)):
        raise ValueError(
            f"{path}: not a training checkpoint: it needs 'model_config', 'tasks' and 'model' or "
            "'ema'"
        )
    return restore_model(config, tasks, state, path)


def _known(name: str, names: list[str]) -> str:
    guess = ""
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        guess = f"did you mean {close[0]!r}? "
    return f"{guess}zoo: {', '.join(sorted(names)) or '(empty)'}"
