"""Parameter groups, the optimiser and the learning rate schedule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.poly_lr import PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from visionmtl._errors import last_line
from visionmtl.models.multitask import MultiTaskModel


def parameter_groups(
    model: MultiTaskModel,
    weight_decay: float,
    backbone_lr_scale: float,
    weighting: nn.Module,
    *,
    unit_lr_scale: float = 1.0,
    task_weight_decay: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups by place (backbone, units between trunks, or new layers) and weight decay.

    Parameters of one axis (norms, biases, scales) have no decay. Learnable loss weights form a
    group of their own, without decay, which would pull them to a fixed balance.

    Args:
        model: the network.
        weight_decay: of every matrix and kernel.
        backbone_lr_scale: learning rate of the backbones over that of new layers.
        weighting: may have parameters.
        unit_lr_scale: learning rate of ``sharing.unit_parameters()`` over that of new layers.
        task_weight_decay: task -> weight decay of the parameters that only this task has.
    """
    places = {id(p): "backbone" for b in model.sharing.backbones for p in b.parameters()}
    places |= {id(p): "units" for p in model.sharing.unit_parameters()}
    owners: dict[int, str] = {}
    decays = dict(task_weight_decay or {})
    for task in decays:
        owners |= {id(p): task for p in model.task_parameters(task)}
    undecayed = {id(p) for p in model.sharing.no_weight_decay()}
    groups: dict[tuple[str, str, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        place = places.get(id(parameter), "new")
        owner = owners.get(id(parameter))
        if parameter.ndim <= 1 or id(parameter) in undecayed:
            key = (place, f"{place}_no_decay", 0.0)
        elif owner is not None:
            key = (place, f"{place}_{owner}", decays[owner])
        else:
            key = (place, place, weight_decay)
        groups.setdefault(key, []).append(parameter)
    scales = {"backbone": backbone_lr_scale, "units": unit_lr_scale, "new": 1.0}
    made = []
    for (place, name, decay), parameters in groups.items():
        made.append(_group(name, parameters, decay, scales[place]))
    learnable = [p for p in weighting.parameters() if p.requires_grad]
    if learnable:
        made.append(_group("weighting", learnable, 0.0, 1.0))
    return made


def _group(
    name: str, parameters: list[nn.Parameter], weight_decay: float, lr_scale: float
) -> dict[str, Any]:
    return {
        "name": name,
        "params": parameters,
        "weight_decay": weight_decay,
        "lr_scale": lr_scale,
    }


def make_optimizer(groups: list[dict[str, Any]], name: str, lr: float) -> torch.optim.Optimizer:
    """Any timm optimiser by name.

    Raises:
        ValueError: unknown name, or an optimiser that cannot be made here (some need a CUDA device
            or a package).
    """
    known = [str(optimizer) for optimizer in list_optimizers()]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=3) or ["adamw", "sgd", "lamb"]
        hint = f"timm has, among others, {', '.join(close)}"
        raise ValueError(f"optimizer.name: unknown optimiser {name!r}; {hint}")
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, opt=name, lr=lr)
    except (ImportError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        what = f"{name!r} cannot be used here"
        raise ValueError(f"optimizer.name: {what}: {last_line(error)}") from error
    return optimizer


class Schedule:
    """timm's schedules as a function of the optimiser step, without state.

    Linear warm-up from 1 % of the peak, then ``cosine``, ``poly`` (power 0.9) or ``constant``;
    cosine and poly end at ``min_lr_scale`` times the peak. A group's rate is multiplied by its
    ``lr_scale``.

    Args:
        optimizer: its groups are set.
        name: the curve after the warm-up.
        lr: peak.
        total_steps: of the run, at least 1.
        warmup_steps: at most ``total_steps - 1`` are used.
        min_lr_scale: last rate over ``lr``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        name: str,
        lr: float,
        total_steps: int,
        warmup_steps: int,
        min_lr_scale: float,
    ) -> None:
        warmup = min(warmup_steps, total_steps - 1)
        last = lr * min_lr_scale
        if name == "constant":  # a cosine between equal rates
            last = lr
        options: dict[str, Any] = {
            "t_initial": max(total_steps - warmup, 2),  # timm warns of one step
            "lr_min": last,
            "t_in_epochs": False,
            "warmup_t": warmup,
            "warmup_lr_init": lr * 0.01,
            "warmup_prefix": True,
        }
        self._scheduler: Scheduler
        if name == "poly":
            self._scheduler = PolyLRScheduler(optimizer, power=0.9, **options)
        else:
            self._scheduler = CosineLRScheduler(optimizer, **options)
        self.set(0)

    def set(self, step: int) -> None:
        """Set the rates for the step that follows ``step`` finished ones."""
        self._scheduler.step_update(step)
