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
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from visionmtl import __version__
from visionmtl._files import read_json, write_atomic
from visionmtl.types import TaskSpec

if TYPE_CHECKING:
    from visionmtl.models.multitask import MultiTaskModel

FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
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
    tensors = _stored_tensors(model.state_dict(), dtype)
    if taken := sorted(set(extra or {}) & set(_RESERVED)):
        raise ValueError(
            f"save_model: extra must not set {', '.join(taken)}: save_model writes these keys itself"
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
    from visionmtl.models.factory import create_model_from_config

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


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Copy ``state`` into ``model``; every tensor must be there, and no other.

    Tensors that ``model`` ties together may be stored under one of their names only.

    Raises:
        ValueError: lists missing keys, extra keys and keys of another shape or kind; ``model`` is
            unchanged.
    """
    own = model.state_dict()
    state = dict(state)
    for alias, name in _aliases(own).items():
        if alias not in state and name in state:
            state[alias] = state[name]
    problems = {
        "missing": [key for key in own if key not in state],
        "extra": [key for key in state if key not in own],
        "different": [
            f"{key} ({_describe(state[key])} for {_describe(own[key])})"
            for key in own
            if key in state and not _fits(state[key], own[key])
        ],
    }
    if any(problems.values()):
        parts = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in problems.items() if keys]
        hint = ""
        if state and all(str(key).startswith("module.") for key in state):
            hint = "; every key starts with 'module.': store the state dict of the wrapped model, wrapper.module"
        raise ValueError(f"{source}: the weights do not fit the model: {', '.join(parts)}{hint}")
    model.load_state_dict(state)


def _stored_tensors(state: Mapping[str, Any], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Contiguous CPU tensors with storage of their own; tied tensors once, under their first
    name.
    """
    aliases = _aliases(state)
    tensors = {}
    for name, value in state.items():
        if name.startswith(("module.", "_orig_mod.")):
            raise ValueError(
                f"save_model: {name!r} belongs to a wrapper: pass the model inside it (.module, ._orig_mod)"
            )
        if not isinstance(value, Tensor):
            raise ValueError(
                f"save_model: {name!r} is a {type(value).__name__}, only tensors can be stored"
            )
        if name in aliases:
            continue
        tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        if dtype is not None and tensor.is_floating_point() and tensor.ndim > 1:
            tensor = tensor.to(dtype)
            if bool((tensor.isfinite().logical_not() & value.detach().cpu().isfinite()).any()):
                largest = float(value.abs().max())
                raise ValueError(
                    f"save_model: {name!r} overflows in {dtype}: its largest value is {largest:.6g}"
                )
        tensors[name] = tensor
    return tensors


def _aliases(state: Mapping[str, Any]) -> dict[str, str]:
    """Further name -> first name, of tensors that are one and the same memory."""
    first: dict[tuple[Any, ...], str] = {}
    aliases = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.numel():
            key = (value.device, value.dtype, value.data_ptr(), value.shape, value.stride())
            owner = first.setdefault(key, name)
            if owner != name:
                aliases[name] = owner
    return aliases


def _read_config(path: Path) -> dict[str, Any]:
    """The checked content of a ``config.json``."""
    config = read_json(path)
    if not isinstance(config, dict) or type(config.get("format_version")) is not int:
        raise ValueError(
            f"{path}: not the config of a visionmtl model: it has no whole-number 'format_version'"
        )
    if config["format_version"] != FORMAT_VERSION:
        found = f"format_version {config['format_version']} of visionmtl {config.get('visionmtl_version')!r:.40}"
        raise ValueError(
            f"{path}: {found}; visionmtl {__version__} reads {FORMAT_VERSION}: update visionmtl"
        )
    for key, kind in (("model", dict), ("tasks", list), ("weights_sha256", str)):
        if not isinstance(config.get(key), kind):
            names = {dict: "an object", list: "a list", str: "a string"}
            raise ValueError(f"{path}: {key!r} must be {names[kind]}, got {config.get(key)!r:.80}")
    return config


def _fits(value: Any, own: Tensor) -> bool:
    same_kind = isinstance(value, Tensor) and value.is_floating_point() == own.is_floating_point()
    return same_kind and value.shape == own.shape


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _first(names: list[str], count: int = 4) -> str:
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")
