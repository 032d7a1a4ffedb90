"""Config -> the objects of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from visionmtl._yaml import shown
from visionmtl.balancing import BALANCERS, GradientBalancer, Sum
from visionmtl.balancing.backward import Balance
from visionmtl.config.schema import (
    BalancingConfig,
    Config,
    ConstantWeightingConfig,
    CrossStitchConfig,
    IndependentSharingConfig,
    NDDRConfig,
)
from visionmtl.engine.distributed import World
from visionmtl.engine.optim import parameter_groups
from visionmtl.losses import Criterion, build_loss
from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing.penalty import soft_sharing_penalty
from visionmtl.types import TaskSpec
from visionmtl.weighting import WEIGHTINGS, ConstantWeighting, LossWeighting

M = TypeVar("M")
_TYPES: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
}


def build_model(config: Config, tasks: Sequence[TaskSpec]) -> MultiTaskModel:
    """The network, initialised from the config's seed; ``init_from`` is the trainer's business."""
    model = config.model
    options = model.sharing.model_dump(exclude={"type", "lr_scale", "penalty", "penalty_weight"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return create_model(
            model.backbone.name,
            tasks,
            model.sharing.type,
            model.decoder.type,
            model.backbone.pretrained,
            sharing_options=options,
            decoder_options={"channels": model.decoder.channels},
            heads=model.heads,
            input_size=model.input_size,
        )


def build_parameter_groups(
    config: Config, model: MultiTaskModel, weighting: LossWeighting
) -> list[dict[str, Any]]:
    """The optimiser's parameter groups."""
    options, sharing = config.optimizer, config.model.sharing
    _check_tasks("optimizer.task_weight_decay", options.task_weight_decay, model.tasks)
    return parameter_groups(
        model,
        options.weight_decay,
        options.backbone_lr_scale,
        weighting,
        unit_lr_scale=sharing.lr_scale
        if isinstance(sharing, CrossStitchConfig | NDDRConfig)
        else 1.0,
        task_weight_decay=options.task_weight_decay,
    )


def build_penalty(config: Config, model: MultiTaskModel) -> Callable[[], Tensor] | None:
    """The soft sharing term of the loss, where the config asks for one."""
    sharing = config.model.sharing
    if not isinstance(sharing, IndependentSharingConfig) or sharing.penalty is None:
        return None
    if len(model.tasks) < 2:
        raise ValueError(
            f"model.sharing.penalty: needs at least two tasks, the run has {list(model.heads)}"
        )
    kind, weight = sharing.penalty, sharing.penalty_weight
    return lambda: weight * soft_sharing_penalty(kind, model.sharing)


def build_criterion(config: Config, tasks: Sequence[TaskSpec]) -> Criterion:
    """One loss per task; ``losses`` may leave tasks to their default loss."""
    _check_tasks("losses", config.losses, tasks)
    return Criterion(
        {spec.name: build_loss(spec, **config.losses.get(spec.name, {})) for spec in tasks}
    )


def build_weighting(config: Config, tasks: Sequence[TaskSpec]) -> LossWeighting:
    """The loss weighting; tasks that ``weighting.weights`` does not name have weight 1."""
    section = config.weighting
    if isinstance(section, ConstantWeightingConfig):
        _check_tasks("weighting.weights", section.weights, tasks)
        names = [spec.name for spec in tasks]
        return build_method("weighting", ConstantWeighting, [names], {"weights": section.weights})
    return build_method("weighting", WEIGHTINGS[section.type], [len(tasks)], section.options)


def build_balance(
    config: Config, model: MultiTaskModel, weighting: LossWeighting, world: World
) -> Balance | None:
    """What balances the gradients; None where one backward pass of the weighted losses is enough.

    That is so without ``balancing``, unless the weighting looks at the gradients, and always with a
    single task.

    Raises:
        ValueError: unknown options, a weighting that cannot be combined, or a sharing scheme that
            does not fit.
    """
    section = config.balancing or (
        BalancingConfig.model_validate({"type": "sum"}) if weighting.needs_gramian else None
    )
    if section is None:
        return None
    classes: dict[str, type[GradientBalancer]] = dict(BALANCERS)
    balancer = build_method("balancing", classes[section.type], [], section.options)
    if not weighting.combines and not isinstance(balancer, Sum):
        raise ValueError(
            f"weighting {config.weighting.type} learns from steps that follow its own weights; it cannot be combined "
            f"with balancing {section.type}, only with sum or none"
        )
    if len(model.tasks) == 1:
        return None
    try:
        return Balance(balancer, model, section.scope, section.every, world.sum_)
    except ValueError as error:
        needed_by = "" if config.balancing else f"weighting {config.weighting.type}: "
        raise ValueError(f"{needed_by}{error}") from error


def build_method(
    key: str, method: Callable[..., M], given: Sequence[Any], options: Mapping[str, Any]
) -> M:
    """A method with the options of its config section ``key``."""
    parameters = inspect.signature(method).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    unknown = sorted(set(options) - set(known))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(f"{key}: unknown options {unknown}; known: {list(known)}")
    if missing := [
        name for name, p in known.items() if p.default is p.empty and name not in options
    ]:
        raise ValueError(f"{key}: missing options {missing}")
    for name in sorted(set(options) & set(known)):
        _check_type(f"{key}.{name}", options[name], type(known[name].default))
    try:
        return method(*given, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from error


def _check_type(key: str, value: Any, kind: type) -> None:
    """A value is of the type of the option's default, if that says anything; an integer is a number
    too.
    """
    if kind in _TYPES and type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{key}: must be {_TYPES[kind]}, got {shown(value)}")


def _check_tasks(key: str, named: Any, tasks: Sequence[TaskSpec]) -> None:
    known = [spec.name for spec in tasks]
    if unknown := sorted(set(named) - set(known)):
        raise ValueError(f"{key}: unknown tasks {unknown}; the run has {known}")
