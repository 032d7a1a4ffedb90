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
    """Groups by place (backbone, units between trunks, or new layers) x decay; norms, biases and
    scales have none.

    Learnable loss weights form a group of their own, without decay: decay would pull them to a
    fixed balance.

    Args:
        model: the network.
        weight_decay: of every matrix and kernel.
        backbone_lr_scale: learning rate of the backbones over that of new layers.
        weighting: may have parameters.
        unit_lr_scale: learning rate of ``sharing.unit_parameters()`` over that of new layers.
        task_weight_decay: task -> weight decay of the parameters that only this task has.
    """
    place = {id(p): "backbone" for b in model.sharing.backbones for p in b.parameters()}
    place |= {id(p): "units" for p in model.sharing.unit_parameters()}
    undecayed = {id(p) for p in model.sharing.no_weight_decay()}
    own = {
        id(p): (task, d)
        for task, d in (task_weight_decay or {}).items()
        for p in model.task_parameters(task)
    }
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            name, decay = place.get(id(parameter), "new"), 0.0
            if parameter.ndim <= 1 or id(parameter) in undecayed:
                name += "_no_decay"
            elif id(parameter) in own:
                task, decay = own[id(parameter)]
                name += f"_{task}"
            else:
                decay = weight_decay
            groups.setdefault((name, decay), []).append(parameter)
    scales = {"backbone": backbone_lr_scale, "units": unit_lr_scale, "new": 1.0}
    made: list[dict[str, Any]] = [
        {
            "name": name,
            "params": parameters,
            "weight_decay": decay,
            "lr_scale": scales[name.split("_")[0]],
        }
        for (name, decay), parameters in groups.items()
    ]
    if learnable := [p for p in weighting.parameters() if p.requires_grad]:
        made.append(
            {"name": "weighting", "params": learnable, "weight_decay": 0.0, "lr_scale": 1.0}
        )
    return made


def make_optimizer(groups: list[dict[str, Any]], name: str, lr: float) -> torch.optim.Optimizer:
    """Any timm optimiser by name.

    Raises:
        ValueError: unknown name, or an optimiser that cannot be made here (some need a CUDA device
            or a package).
    """
    known = [str(optimizer) for optimizer in list_optimizers()]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=3) or ["adamw", "sgd", "lamb"]
        raise ValueError(
            f"optimizer.name: unknown optimiser {name!r}; timm has, among others, {', '.join(close)}"
        )
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, opt=name, lr=lr)
    except (ImportError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"optimizer.name: {name!r} cannot be used here: {last_line(error)}"
        ) from error
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
        options: dict[str, Any] = {
            "t_initial": max(total_steps - warmup, 2),  # timm warns of one step
            "lr_min": lr
            if name == "constant"
            else lr * min_lr_scale,  # a cosine between equal rates is constant
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
