"""State dicts: what is stored of a model, and how it gets back into one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
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
    unfit = [key for key in own if key in state and not _fits(state[key], own[key])]
    problems = {
        "missing": [key for key in own if key not in state],
        "extra": [key for key in state if key not in own],
        "different": [f"{k} ({_describe(state[k])} for {_describe(own[k])})" for k in unfit],
    }
    parts = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in problems.items() if keys]
    if parts:
        hint = ""
        if state and all(str(key).startswith("module.") for key in state):
            hint = (
                "; every key starts with 'module.': store the state dict of the wrapped model, "
                "wrapper.module"
            )
        raise ValueError(f"{source}: the weights do not fit the model: {', '.join(parts)}{hint}")
    model.load_state_dict(state)


def stored_tensors(state: Mapping[str, Any], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Contiguous CPU tensors with storage of their own; tied tensors once, under their first
    name.

    Args:
        state: of a model that is not wrapped.
        dtype: of all tensors but vectors; None keeps all.

    Raises:
        ValueError: a value that ``dtype`` cannot hold, a wrapped model, or one that is no tensor.
    """
    aliases = _aliases(state)
    tensors = {}
    for name, value in state.items():
        if name.startswith(("module.", "_orig_mod.")):
            raise ValueError(
                f"save_model: {name!r} belongs to a wrapper: pass the model inside it "
                "(.module, ._orig_mod)"
            )
        if not isinstance(value, Tensor):
            raise ValueError(
                f"save_model: {name!r} is a {type(value).__name__}, only tensors can be stored"
            )
        if name in aliases:
            continue
        tensors[name] = _stored(name, value, dtype)
    return tensors


def _stored(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dtype is None or not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    converted = tensor.to(dtype)
    overflown = tensor.isfinite() & ~converted.isfinite()
    if overflown.any():
        largest = float(value.abs().max())
        raise ValueError(
            f"save_model: {name!r} overflows in {dtype}: its largest value is {largest:.6g}"
        )
    return converted


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


def _fits(value: Any, own: Tensor) -> bool:
    same_kind = isinstance(value, Tensor) and value.is_floating_point() == own.is_floating_point()
    return same_kind and value.shape == own.shape


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _first(names: list[str], count: int = 4) -> str:
    listed = ", ".join(map(str, names[:count]))
    if len(names) > count:
        listed += ", ..."
    return listed
