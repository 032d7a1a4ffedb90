"""The schema of a run: every key, its default and its range.

A section that chooses a registered class (``Choice``) has the options of that class beside its own
keys. Reading files and writing error messages is the work of ``visionmtl.config.load``. What is
checked here needs no weights and no data.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from timm.optim import get_optimizer_info, list_optimizers  # type: ignore[attr-defined]

from visionmtl._options import Seed
from visionmtl.balancing import BALANCERS
from visionmtl.config.data import Data
from visionmtl.config.sections import (
    Choice,
    Number,
    Section,
    Size,
    TaskChoice,
    Tasks,
    Text,
    default_of,
)
from visionmtl.losses import LOSSES
from visionmtl.models.decoders import DECODERS
from visionmtl.models.heads import HEADS
from visionmtl.models.sharing import SHARING
from visionmtl.weighting import WEIGHTINGS

_BOOLEANS = ("yes", "no", "on", "off")
"""Words that are booleans elsewhere, and strings in YAML 1.2."""


def _flag_or_source(value: Any) -> Any:
    word = isinstance(value, str) and value.lower() in _BOOLEANS
    if not isinstance(value, bool | str) or value == "" or word:
        raise ValueError("must be true, false or a source of weights")
    return value


def _optimiser(value: str) -> str:
    known = [str(name) for name in list_optimizers()]
    if value not in known:
        close = difflib.get_close_matches(value.lower(), known, n=3) or ["adamw", "sgd", "lamb"]
        listed = ", ".join(close)
        raise ValueError(f"unknown optimiser {value!r}; timm has, among others, {listed}")
    if get_optimizer_info(value).second_order:
        reason = "it needs second derivatives, which training does not compute"
        raise ValueError(f"must be another optimiser: {reason}")
    return value


Decay = Annotated[float, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(ge=1, le=10**9)]


class BackboneConfig(Section):
    """The feature extractor."""

    name: Text = Field(description="a timm model name")
    pretrained: Annotated[bool | str, BeforeValidator(_flag_or_source)] = Field(
        default=False,
        description="timm's weights, random weights, or a local weights file",
    )


class DecoderConfig(Choice):
    """The fusion of the backbone's maps."""

    registry = DECODERS
    default = "fpn"


class SharingConfig(Choice):
    """How the tasks share parameters."""

    registry = SHARING
    default = "hard"


class HeadConfig(TaskChoice):
    """The head of a task."""

    registry = HEADS
    role = "head"


class LossConfig(TaskChoice):
    """The loss of a task."""

    registry = LOSSES
    role = "loss"


class ModelConfig(Section):
    """The network."""

    backbone: BackboneConfig
    decoder: DecoderConfig = default_of(
        DecoderConfig, description="`type` (`fpn` if missing) and options of the decoder"
    )
    sharing: SharingConfig = default_of(
        SharingConfig, description="`type` (`hard` if missing) and options of the sharing scheme"
    )
    init_from: dict[str, Text] = Field(
        default={},
        description=(
            "task -> trained model whose trunk and head of that task are the start: a run folder, "
            "model folder, checkpoint or zoo name; for sharing schemes with a trunk per task"
        ),
    )
    heads: dict[str, HeadConfig] = Field(
        default={}, description="task -> type and options of its head"
    )
    input_size: Size | None = Field(
        default=None,
        description=(
            "[height, width] the network was trained at: evaluation and prediction bring images to "
            "its short side; null: as they are"
        ),
    )


class WeightingConfig(Choice):
    """How the losses become one."""

    registry = WEIGHTINGS
    default = "constant"


class BalancingConfig(Choice):
    """Balances the gradients of the tasks on what they share."""

    registry = BALANCERS

    scope: Literal["parameters", "features"] = Field(
        default="parameters",
        description=(
            "which gradients: those of all shared parameters, a backward pass per task; or those "
            "at the shared pyramid, one pass through the trunk, for hard sharing"
        ),
    )
    every: Number = Field(
        default=1,
        description=(
            "steps that keep their weights; those between two refreshes cost little more than "
            "plain training"
        ),
    )


class OptimizerConfig(Section):
    """The optimiser."""

    name: Annotated[Text, AfterValidator(_optimiser)] = Field(
        default="adamw", description="an optimiser of timm"
    )
    lr: float = Field(default=1e-3, gt=0, le=1000, description="peak learning rate")
    weight_decay: Decay = Field(
        default=0.05, description="not applied to parameters of one axis: norms, biases, scales"
    )
    task_weight_decay: dict[str, Decay] = Field(
        default={},
        description="task -> weight decay, instead, of the parameters that only this task has",
    )
    backbone_lr_scale: float = Field(
        default=1.0, gt=0, le=10, description="the backbone's learning rate over `lr`"
    )


class ScheduleConfig(Section):
    """The learning rate over time."""

    name: Literal["cosine", "constant", "poly"] = Field(
        default="cosine", description="after the warm-up; poly has power 0.9"
    )
    warmup_epochs: float = Field(
        default=1.0,
        ge=0,
        le=1_000_000,
        description="linear, from 1 % of the peak; fractions allowed",
    )
    min_lr_scale: float = Field(
        default=0.01, ge=0, le=1, description="last learning rate over `lr` (cosine and poly)"
    )


class TrainerConfig(Section):
    """The training loop."""

    epochs: Number = Field(default=10, description="passes through the training samples")
    batch_size: Number = Field(default=8, description="samples per forward pass and process")
    eval_batch_size: Number | None = Field(
        default=None,
        description=(
            "the same in evaluation; null: `batch_size`. 1 where validation images have different "
            "sizes"
        ),
    )
    accumulate: Number = Field(default=1, description="forward passes per optimiser step")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16: autocast, weights stay float32"
    )
    clip_grad: float | None = Field(
        default=5.0, gt=0, le=1e9, description="largest gradient norm; null: no clipping"
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "decay of averaged weights, which are then evaluated and published; null: none"
        ),
    )
    compile: bool = Field(
        default=False,
        description="`torch.compile`; with `balancing.scope: parameters` of the heads only",
    )
    channels_last: bool = Field(default=True, description="memory layout, faster on most devices")
    eval_every: Number = Field(
        default=1, description="epochs between evaluations; the last epoch is always evaluated"
    )
    checkpoint_every: Steps | None = Field(
        default=None, description="steps between checkpoints; null: after every epoch"
    )
    nonfinite: Literal["raise", "skip"] = Field(
        default="raise",
        description="a NaN or infinite loss ends the run, or the step is left out",
    )
    max_skipped: int = Field(
        default=10, ge=0, le=10**9, description="skipped steps after which a run ends"
    )


class LoggingConfig(Section):
    """What a run writes down."""

    every: Steps = Field(default=20, description="steps between lines")
    tensorboard: bool = Field(default=True, description="whether TensorBoard files are written")
    pictures: int = Field(
        default=4, ge=0, le=32, description="validation samples drawn at each evaluation"
    )


class Config(Section):
    """A complete run."""

    seed: Seed = Field(
        default=0, description="of the first weights, the order of samples and their augmentation"
    )
    output_dir: Text = Field(
        default="runs",
        description="where `<config>-<time>` is made, if `--output-dir` is not given",
    )
    data: Data = Field(description="where samples come from")
    tasks: Tasks = Field(
        default=None,
        description="the tasks to train, in order; null: every task of the data set",
    )
    model: ModelConfig = Field(description="the network")
    losses: dict[str, LossConfig] = Field(
        default={}, description="task -> type and options of its loss"
    )
    weighting: WeightingConfig = default_of(
        WeightingConfig,
        description="how the losses become one: `type` (`constant` if missing) and its options",
    )
    balancing: BalancingConfig | None = Field(
        default=None,
        description="of the gradients of the tasks: `type` and its options; null: none",
    )
    optimizer: OptimizerConfig = default_of(OptimizerConfig, description="the optimiser")
    schedule: ScheduleConfig = default_of(ScheduleConfig, description="the learning rate over time")
    trainer: TrainerConfig = default_of(TrainerConfig, description="the training loop")
    logging: LoggingConfig = default_of(LoggingConfig, description="what a run writes down")
