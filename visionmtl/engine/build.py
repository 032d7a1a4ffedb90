"""Config -> the objects of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from visionmtl.balancing import BALANCERS, Sum
from visionmtl.balancing.backward import Balance
from visionmtl.config.schema import BalancingConfig, Config
from visionmtl.engine.distributed import World
from visionmtl.engine.optim import parameter_groups
from visionmtl.losses import Criterion, TaskLoss, build_loss
from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import TaskSpec
from visionmtl.weighting import WEIGHTINGS, LossWeighting


def build_model(config: Config, tasks: Sequence[TaskSpec]) -> MultiTaskModel:
    """The network, initialised from the config's seed; ``init_from`` is the trainer's business."""
    model = config.model
    heads = {task: head.plain() for task, head in model.heads.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return create_model(
            model.backbone.name,
            tasks,
            model.sharing.type,
            model.decoder.type,
            model.backbone.pretrained,
            sharing_options=model.sharing.options,
            decoder_options=model.decoder.options,
            heads=heads,
            input_size=model.input_size,
        )


def build_parameter_groups(
    config: Config, model: MultiTaskModel, weighting: LossWeighting
) -> list[dict[str, Any]]:
    """The optimiser's parameter groups."""
    options = config.optimizer
    _check_tasks("optimizer.task_weight_decay", options.task_weight_decay, model.tasks)
    return parameter_groups(
        model,
        options.weight_decay,
        options.backbone_lr_scale,
        weighting,
        unit_lr_scale=model.sharing.lr_scale,
        task_weight_decay=options.task_weight_decay,
    )


def build_criterion(config: Config, tasks: Sequence[TaskSpec]) -> Criterion:
    """One loss per task; ``losses`` may leave tasks to their default loss."""
    _check_tasks("losses", config.losses, tasks)
    losses: dict[str, TaskLoss] = {}
    for spec in tasks:
        section = config.losses.get(spec.name)
        if section is None:
            losses[spec.name] = build_loss(spec)
        else:
            losses[spec.name] = build_loss(spec, section.type, **section.options)
    return Criterion(losses)


def build_weighting(config: Config, tasks: Sequence[TaskSpec]) -> LossWeighting:
    """The loss weighting."""
    section = config.weighting
    given = {"tasks": [spec.name for spec in tasks], "num_tasks": len(tasks)}
    try:
        return WEIGHTINGS.make(section.type, given, section.options)
    except ValueError as error:
        raise ValueError(f"weighting.{error}") from error


def build_balance(
    config: Config, model: MultiTaskModel, weighting: LossWeighting, world: World
) -> Balance | None:
    """What balances the gradients; None where one backward pass of the weighted losses is enough.

    That is so without ``balancing``, unless the weighting looks at the gradients, and always with a
    single task.

    Raises:
        ValueError: a weighting that cannot be combined, or a sharing scheme that does not fit.
    """
    section = config.balancing
    needed_by = ""
    if section is None:
        if not weighting.needs_gramian:
            return None
        section = BalancingConfig.model_validate({"type": BALANCERS.name_of(Sum)})
        needed_by = f"weighting {config.weighting.type}: "
    try:
        balancer = BALANCERS.make(section.type, {}, section.options)
    except ValueError as error:
        raise ValueError(f"balancing: {error}") from error
    if not weighting.combines and not isinstance(balancer, Sum):
        raise ValueError(
            f"weighting {config.weighting.type} learns from steps that follow its own weights; "
            f"it cannot be combined with balancing {section.type}, only with sum or none"
        )
    if len(model.tasks) == 1:
        return None
    try:
        return Balance(balancer, model, section.scope, section.every, world.sum_)
    except ValueError as error:
        raise ValueError(f"{needed_by}{error}") from error


def _check_tasks(key: str, named: Any, tasks: Sequence[TaskSpec]) -> None:
    known = [spec.name for spec in tasks]
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ValueError(f"{key}: unknown tasks {unknown}; the run has {known}")
