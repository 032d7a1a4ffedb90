"""Optimiser and learning rate schedule, both timm's."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from visionmtl.models.multitask import MultiTaskModel


def parameter_groups(
    model: MultiTaskModel, weight_decay: float, backbone_lr_scale: float, weighting: nn.Module
) -> list[dict[str, Any]]:
    """Groups by (backbone or new layers) x (decayed or not); norms, biases and scales are not decayed.

    Learnable loss weights form a group of their own, without decay: decay would pull them to a fixed balance.
    """
    backbone = {id(p) for b in model.sharing.backbones for p in b.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in backbone, parameter.ndim > 1), []).append(parameter)
    made: list[dict[str, Any]] = [
        {
            "name": ("backbone" if in_backbone else "new") + ("" if decayed else "_no_decay"),
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "lr_scale": backbone_lr_scale if in_backbone else 1.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]
    if learnable := [p for p in weighting.parameters() if p.requires_grad]:
        made.append({"name": "weighting", "params": learnable, "weight_decay": 0.0, "lr_scale": 1.0})
    return made


def make_optimizer(groups: list[dict[str, Any]], name: str, lr: float) -> torch.optim.Optimizer:
    """Any timm optimiser by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in list_optimizers():
        raise ValueError(f"optimizer.name: unknown optimiser {name!r}; known: {', '.join(list_optimizers())}")
    optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, opt=name, lr=lr)
    return optimizer


def make_schedule(
    optimizer: torch.optim.Optimizer, name: str, lr: float, total_steps: int, warmup_steps: int, min_lr_scale: float
) -> Scheduler:
    """A schedule over optimiser steps: linear warm-up, then ``cosine``, ``poly`` (power 0.9) or ``constant``.

    It has no state of its own: ``step_update(n)`` sets the rate of step n.
    """
    warmup_steps = min(warmup_steps, total_steps - 1)
    common: dict[str, Any] = {
        "t_in_epochs": False,
        "warmup_t": warmup_steps,
        "warmup_lr_init": lr * 0.01,
        "warmup_prefix": True,
    }
    decay_steps = max(total_steps - warmup_steps, 1)
    if name == "constant":
        common.pop("warmup_prefix")
        schedule: Scheduler = StepLRScheduler(optimizer, decay_t=total_steps + 1, decay_rate=1.0, **common)
    elif name == "poly":
        schedule = PolyLRScheduler(optimizer, t_initial=decay_steps, power=0.9, lr_min=lr * min_lr_scale, **common)
    else:
        schedule = CosineLRScheduler(optimizer, t_initial=decay_steps, lr_min=lr * min_lr_scale, **common)
    schedule.step_update(0)
    return schedule
