"""Model folders: ``model.safetensors``, ``config.json`` and ``README.md``, the form in which a
model is published.

A folder holds no pickle. Its ``config.json`` carries the sha256 of the weights, because safetensors
does not notice a flipped bit, and because a crash between the two files must not leave a config
beside the weights of another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from visionmtl import __version__
from visionmtl._files import read_json, write_atomic
from visionmtl.models.factory import create_model_from_config
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.tasks import TaskSpec
from visionmtl.zoo.weights import load_weights, stored_tensors

FORMAT_VERSION = 2
"""Of new folders: ``model`` has ``decoder_options``. In version 1, of visionmtl 0.1, it has
``decoder_channels``; both are read.
"""
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
_RESERVED = ("format_version", "visionmtl_version", "model", "tasks", "weights_sha256")


def save_model(
    model: MultiTaskModel,
    folder: Path,
    card: str = "",
    dtype: torch.dtype | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write ``model`` as a model folder; each file is replaced as a whole.

    Args:
        model: its ``config`` and ``tasks`` describe it.
        folder: created where missing.
        card: Markdown text of the README.
        dtype: weights are stored in this type (float16 halves the file); vectors keep their own,
            because running variances may exceed float16 and hardly count. None keeps all.
        extra: further plain values for ``config.json``, for example metrics and the command.

    Raises:
        ValueError: a value that ``dtype`` cannot hold, a wrapped model, a config or ``extra`` that
            is not plain JSON.
    """
    folder = Path(folder)
    tensors = stored_tensors(model.state_dict(), dtype)
    taken = sorted(set(extra or {}) & set(_RESERVED))
    if taken:
        raise ValueError(
            f"save_model: extra must not set {', '.join(taken)}: "
            "save_model writes these keys itself"
        )
    weights = to_safetensors(tensors, metadata={"format": "pt"})
    config = {
        "format_version": FORMAT_VERSION,
        "visionmtl_version": __version__,
        "model": model.config,
        "tasks": [task.to_dict() for task in model.tasks],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **(extra or {}),
    }
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"save_model: the model's config and extra must be plain JSON values: {error}"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS, weights)
    write_atomic(folder / CARD, card.encode())
    write_atomic(folder / CONFIG, text.encode())


def load_model_folder(folder: Path) -> MultiTaskModel:
    """The model of a folder written by ``save_model``, float32, in eval mode, on the CPU.

    Raises:
        ValueError: one line that names the file: missing, damaged, from a newer version, or of
            another model.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a model folder holds {WEIGHTS} and {CONFIG}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != config["weights_sha256"]:
        raise ValueError(
            f"{path}: damaged, or not the weights of its {CONFIG} (the sha256 differs)"
        )
    try:
        state = parse_safetensors(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    return restore_model(config["model"], config["tasks"], state, folder)


def restore_model(
    config: Mapping[str, Any],
    tasks: Iterable[Mapping[str, Any]],
    state: Mapping[str, Tensor],
    source: Path,
) -> MultiTaskModel:
    """Build the model of ``config``, check its tasks, load ``state`` strictly; float32, in eval
    mode.

    Args:
        config: ``MultiTaskModel.config``.
        tasks: ``TaskSpec.to_dict()`` of every task, in order.
        state: a state dict.
        source: the file or folder that errors name.

    Raises:
        ValueError: the config does not build a model, or the tasks or the tensors are not the ones
            of that model.
    """
    try:
        specs = [TaskSpec.from_dict(task) for task in tasks]
        model = create_model_from_config(dict(config))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
    ) as error:
        raise ValueError(
            f"{source}: its config describes no model: {type(error).__name__}: {error}"
        ) from error
    if list(model.tasks) != specs:
        raise ValueError(
            f"{source}: the listed tasks {specs} are not those of the model, {list(model.tasks)}"
        )
    load_weights(model, state, source)
    return model.float().eval()


def _read_config(path: Path) -> dict[str, Any]:
    """The checked content of a ``config.json``."""
    config = read_json(path)
    if not isinstance(config, dict) or type(config.get("format_version")) is not int:
        raise ValueError(
            f"{path}: not the config of a visionmtl model: it has no whole-number 'format_version'"
        )
    version = config["format_version"]
    if not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {version} of visionmtl "
            f"{config.get('visionmtl_version')!r:.40}; visionmtl {__version__} reads 1 to "
            f"{FORMAT_VERSION}: update visionmtl"
        )
    expected = {
        "model": (dict, "an object"),
        "tasks": (list, "a list"),
        "weights_sha256": (str, "a string"),
    }
    for key, (kind, name) in expected.items():
        if not isinstance(config.get(key), kind):
            raise ValueError(f"{path}: {key!r} must be {name}, got {config.get(key)!r:.80}")
    return config
