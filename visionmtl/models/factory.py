"""The only place where names become objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from visionmtl.models.backbone import Backbone, create_backbone
from visionmtl.models.decoders import DECODERS
from visionmtl.models.heads.base import Head
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING
from visionmtl.tasks import TASKS
from visionmtl.types import TaskSpec

_SHARING_PARTS = ("levels", "make_backbone", "make_decoder")
CONFIG_KEYS = (
    "backbone",
    "tasks",
    "sharing",
    "sharing_options",
    "decoder",
    "decoder_channels",
    "heads",
    "input_size",
)
"""What ``MultiTaskModel.config`` holds. Never ``pretrained``: a published model must not fetch
weights of its own.
"""


def create_model(
    backbone: str,
    tasks: Sequence[TaskSpec],
    sharing: str = "hard",
    decoder: str = "fpn",
    pretrained: bool | str | Path = False,
    *,
    sharing_options: Mapping[str, Any] | None = None,
    decoder_channels: int = 96,
    heads: Mapping[str, Mapping[str, Any]] | None = None,
    input_size: tuple[int, int] | None = None,
) -> MultiTaskModel:
    """Build a multi-task network from names.

    Args:
        backbone: any timm model that gives feature maps, e.g. ``resnet18``.
        tasks: what to predict, in order.
        sharing: ``hard``, ``independent``, ``cross_stitch``, ``nddr`` or ``mtan``.
        decoder: ``fpn`` or ``bifpn``.
        pretrained: True for timm's ImageNet weights, or a local weights file of the backbone.
        sharing_options: of the sharing scheme, e.g. ``{"alpha": 0.9}`` for ``cross_stitch``.
        decoder_channels: width of p2..p5.
        heads: options per task, e.g. ``{"depth": {"channels": 96}}``.
        input_size: (height, width) of the training images, used by evaluation and prediction.

    Raises:
        ValueError: an unknown name (the known ones are listed), repeated or reserved task names,
            options a head or a sharing scheme does not have or cannot take, an ``input_size`` that
            is not two positive numbers.
    """
    tasks = list(tasks)
    names = _check_names(tasks)
    size = _check_size(input_size)
    head_options = {task: dict(options) for task, options in (heads or {}).items()}
    if unknown := sorted(set(head_options) - set(names)):
        raise ValueError(f"model.heads: unknown tasks {unknown}; the model has {names}")
    sharing_class = _lookup("sharing", sharing, SHARING)
    decoder_class = _lookup("decoder", decoder, DECODERS)
    _check_options(
        "model.sharing", sharing_class.build, sharing_options or {}, given=_SHARING_PARTS
    )
    for option, value in (sharing_options or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"model.sharing.{option}: must be a number, got {value!r}")

    weights = (
        create_backbone(backbone, pretrained).state_dict() if pretrained else None
    )  # fetched once, used by all

    def make_backbone() -> Backbone:
        made = create_backbone(backbone)
        if weights is not None:
            made.load_state_dict(weights)
        return made

    levels = {spec.name: TASKS[spec.kind].head.levels for spec in tasks}
    make_decoder = partial(decoder_class, channels=decoder_channels)
    trunk = sharing_class.build(levels, make_backbone, make_decoder, **(sharing_options or {}))
    config = {
        "backbone": backbone,
        "tasks": [spec.to_dict() for spec in tasks],
        "sharing": sharing,
        "sharing_options": dict(sharing_options or {}),
        "decoder": decoder,
        "decoder_channels": decoder_channels,
        "heads": head_options,
        "input_size": list(size) if size else None,
    }
    built = {
        spec.name: _build_head(spec, decoder_channels, head_options.get(spec.name, {}))
        for spec in tasks
    }
    return MultiTaskModel(trunk, built, tasks, config, size)


def create_model_from_config(config: Mapping[str, Any]) -> MultiTaskModel:
    """Rebuild a network from its ``config``, without pretrained weights.

    Raises:
        ValueError: a key that no ``MultiTaskModel.config`` has (``pretrained`` is one of them), no
            backbone or tasks, and what ``create_model`` raises.
    """
    if unknown := sorted(str(key) for key in config if key not in CONFIG_KEYS):
        raise ValueError(f"model config: unknown keys {unknown}; known: {', '.join(CONFIG_KEYS)}")
    if missing := [key for key in ("backbone", "tasks") if key not in config]:
        raise ValueError(f"model config: missing keys {missing}")
    values = dict(config)
    tasks = [TaskSpec.from_dict(task) for task in values.pop("tasks")]
    return create_model(values.pop("backbone"), tasks, **values)


def _check_names(tasks: Sequence[TaskSpec]) -> list[str]:
    names = [spec.name for spec in tasks]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tasks must be a non-empty list without repeated names, got {names}")
    if taken := [name for name in names if hasattr(nn.ModuleDict(), name)]:
        raise ValueError(f"task names {taken} are attributes of torch modules; choose others")
    if "samples" in names:
        raise ValueError("task name 'samples' is a key of evaluation results; choose another")
    return names


def _check_size(input_size: Sequence[int] | None) -> tuple[int, int] | None:
    if input_size is None:
        return None
    if len(input_size) != 2 or min(input_size) < 1:
        raise ValueError(
            f"model.input_size must be (height, width) in pixels, got {list(input_size)}"
        )
    return input_size[0], input_size[1]


def _build_head(spec: TaskSpec, in_channels: int, options: Mapping[str, Any]) -> Head:
    head_class = TASKS[spec.kind].head
    _check_options(
        f"model.heads.{spec.name}",
        head_class.build,
        options,
        given=("spec", "in_channels", "strides"),
    )
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise ValueError(
                f"model.heads.{spec.name}.{name}: must be an integer >= 1, got {value!r}"
            )
    return head_class.build(spec, in_channels, [4, 8, 16, 32], **options)


def _check_options(
    key: str, build: Callable[..., Any], options: Mapping[str, Any], given: Sequence[str]
) -> None:
    known = [name for name in inspect.signature(build).parameters if name not in given]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{key}: unknown options {unknown}; known: {known}")


def _lookup(what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return known[name]
