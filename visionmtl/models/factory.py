"""Names -> a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from visionmtl._options import check_options
from visionmtl.models.backbone.base import Backbone
from visionmtl.models.backbone.create import create_backbone
from visionmtl.models.decoders import DECODERS, Decoder
from visionmtl.models.decoders.base import check_decoder
from visionmtl.models.heads import HEADS, Head
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING
from visionmtl.types import TaskSpec

CONFIG_KEYS = (
    "backbone",
    "tasks",
    "sharing",
    "sharing_options",
    "decoder",
    "decoder_options",
    "heads",
    "input_size",
)
"""What ``MultiTaskModel.config`` holds.

Never ``pretrained``: a published model must not fetch weights of its own.
"""

Options = Mapping[str, Any]


def create_model(
    backbone: str,
    tasks: Sequence[TaskSpec],
    sharing: str = "hard",
    decoder: str = "fpn",
    pretrained: bool | str | Path = False,
    *,
    sharing_options: Options | None = None,
    decoder_options: Options | None = None,
    heads: Mapping[str, Options] | None = None,
    input_size: tuple[int, int] | None = None,
) -> MultiTaskModel:
    """Build a multi-task network from names.

    Args:
        backbone: any timm model that gives feature maps, e.g. ``resnet18``.
        tasks: what to predict, in order.
        sharing: a name of ``SHARING``.
        decoder: a name of ``DECODERS``.
        pretrained: True for timm's ImageNet weights, or a local weights file of the backbone.
        sharing_options: of the sharing scheme, e.g. ``{"alpha": 0.9}`` for ``cross_stitch``.
        decoder_options: of the decoder, e.g. ``{"channels": 96}``.
        heads: task -> ``type``, a name of ``HEADS``, and options, e.g.
            ``{"depth": {"channels": 96}}``.
        input_size: (height, width) of the training images, used by evaluation and prediction.

    Raises:
        ValueError: an unknown name (the known ones are listed), repeated or reserved task names,
            options that a part does not have or cannot take, a head that the decoder does not
            serve, an ``input_size`` that is not two positive numbers.
    """
    tasks = list(tasks)
    names = _check_names(tasks)
    size = _check_size(input_size)
    sharing_options = dict(sharing_options or {})
    decoder_options = dict(decoder_options or {})
    heads = {task: dict(options) for task, options in (heads or {}).items()}
    unknown = sorted(set(heads) - set(names))
    if unknown:
        raise ValueError(f"model.heads: unknown tasks {unknown}; the model has {names}")
    chosen = {spec.name: _choose_head(spec, heads.get(spec.name, {})) for spec in tasks}
    _check("model.decoder", DECODERS.find(decoder), decoder_options)
    _check("model.sharing", SHARING.find(sharing), sharing_options)

    weights: Mapping[str, Any] | None = None
    if pretrained:
        weights = create_backbone(backbone, pretrained).state_dict()  # fetched once, used by all

    def make_backbone() -> Backbone:
        made = create_backbone(backbone)
        if weights is not None:
            made.load_state_dict(weights)
        return made

    def make_decoder(in_channels: Sequence[int]) -> Decoder:
        made = DECODERS.make(decoder, {"in_channels": in_channels}, decoder_options)
        check_decoder(made, in_channels)
        return made

    levels = {task: HEADS[head].levels for task, (head, _) in chosen.items()}
    parts = {"levels": levels, "make_backbone": make_backbone, "make_decoder": make_decoder}
    trunk = SHARING.make(sharing, parts, sharing_options)
    made_heads: dict[str, Head] = {}
    for spec in tasks:
        head, options = chosen[spec.name]
        maps = trunk.decoder_of(spec.name)
        given = {"in_channels": maps.channels, "strides": maps.strides, **spec.kind.facts()}
        made_heads[spec.name] = HEADS.make(head, given, options)
    config: dict[str, Any] = {
        "backbone": backbone,
        "tasks": [spec.to_dict() for spec in tasks],
        "sharing": sharing,
        "sharing_options": sharing_options,
        "decoder": decoder,
        "decoder_options": decoder_options,
        "heads": heads,
        "input_size": None,
    }
    if size is not None:
        config["input_size"] = list(size)
    return MultiTaskModel(trunk, made_heads, tasks, config, size)


def create_model_from_config(config: Mapping[str, Any]) -> MultiTaskModel:
    """Rebuild a network from its ``config``, without pretrained weights.

    Raises:
        ValueError: a key that no ``MultiTaskModel.config`` has (``pretrained`` is one of them), no
            backbone or tasks, and what ``create_model`` raises.
    """
    values = dict(config)
    if "decoder_channels" in values:  # models of version 0.1
        values["decoder_options"] = {"channels": values.pop("decoder_channels")}
    unknown = sorted(str(key) for key in values if key not in CONFIG_KEYS)
    if unknown:
        raise ValueError(f"model config: unknown keys {unknown}; known: {', '.join(CONFIG_KEYS)}")
    missing = [key for key in ("backbone", "tasks") if key not in values]
    if missing:
        raise ValueError(f"model config: missing keys {missing}")
    tasks = [TaskSpec.from_dict(task) for task in values.pop("tasks")]
    return create_model(values.pop("backbone"), tasks, **values)


def _choose_head(spec: TaskSpec, given: Options) -> tuple[str, dict[str, Any]]:
    """The name of the head of a task, and its options, which are checked."""
    options = dict(given)
    name = options.pop("type", spec.kind.head)
    kind = spec.kind.name
    known = HEADS.names_for(kind, spec.kind.head)
    if name not in known:
        problem = f"no {kind} head {name!r}; known: {', '.join(known)}"
        raise ValueError(f"model.heads.{spec.name}.type: {problem}")
    _check(f"model.heads.{spec.name}", HEADS[name], options)
    return name, options


def _check(key: str, cls: type, options: Options) -> None:
    try:
        check_options(cls, options)
    except ValueError as error:
        raise ValueError(f"{key}.{error}") from None


def _check_names(tasks: Sequence[TaskSpec]) -> list[str]:
    names = [spec.name for spec in tasks]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tasks must be a non-empty list without repeated names, got {names}")
    taken = [name for name in names if hasattr(nn.ModuleDict(), name)]
    if taken:
        raise ValueError(f"task names {taken} are attributes of torch modules; choose others")
    if "samples" in names:
        raise ValueError("task name 'samples' is a key of evaluation results; choose another")
    return names


def _check_size(input_size: Sequence[int] | None) -> tuple[int, int] | None:
    if input_size is None:
        return None
    if len(input_size) != 2 or min(input_size) < 1:
        given = list(input_size)
        raise ValueError(f"model.input_size must be (height, width) in pixels, got {given}")
    height, width = input_size
    return height, width
