"""The schema of a run: every key, its default and its range.

Reading files and writing error messages is the work of ``visionmtl.config.load``. What is checked
here needs no model and no data; names and options of losses, heads, backbones and optimisers are
checked where these are built.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from visionmtl.config.data import FolderData, MixtureData, PackedData, RoomsData
from visionmtl.config.sections import (
    MethodSection,
    Options,
    Positive,
    Section,
    Seed,
    Size,
    Tasks,
    Text,
)


def _flag_or_source(value: Any) -> Any:
    if not isinstance(value, bool | str) or value == "":
        raise ValueError("must be true, false or a source of weights")
    return value


def _with_type(value: Any) -> Any:
    return {"type": "constant", **value} if isinstance(value, dict) else value


class BackboneConfig(Section):
    """The feature extractor."""

    name: Text = Field(description="a timm model name")
    pretrained: Annotated[bool | str, BeforeValidator(_flag_or_source)] = Field(
        default=False, description="whether to start from trained weights, or where they come from"
    )


class DecoderConfig(Section):
    """The fusion of the backbone's maps."""

    type: Literal["fpn", "bifpn"] = "fpn"
    channels: int = Field(default=96, ge=8, le=1024, description="width of every map")


class HardSharingConfig(Section):
    """One backbone and decoder for all tasks."""

    type: Literal["hard"] = "hard"


class IndependentSharingConfig(Section):
    """A backbone and decoder per task, optionally pulled together by a penalty (soft sharing)."""

    type: Literal["independent"]
    penalty: Literal["l2_distance", "trace_norm"] | None = Field(
        default=None, description="soft sharing; null: none"
    )
    penalty_weight: float = Field(
        default=1e-4, ge=0, description="factor of the penalty in the loss"
    )


class CrossStitchConfig(Section):
    """A backbone and decoder per task, and weighted sums of their maps after each stage."""

    type: Literal["cross_stitch"]
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="weight of a task's own maps at the start"
    )
    lr_scale: float = Field(
        default=10.0, gt=0, le=1000, description="learning rate of the units over lr"
    )


class NDDRConfig(Section):
    """A backbone and decoder per task, and 1x1 convolutions over all their maps after each
    stage.
    """

    type: Literal["nddr"]
    alpha: float = Field(
        default=1.0, ge=0, le=1, description="weight of a task's own maps at the start"
    )
    lr_scale: float = Field(
        default=1.0, gt=0, le=1000, description="learning rate of the units over lr"
    )


class MTANConfig(Section):
    """One backbone, and an attention path and a decoder per task."""

    type: Literal["mtan"]


SharingConfig = (
    HardSharingConfig | IndependentSharingConfig | CrossStitchConfig | NDDRConfig | MTANConfig
)


class ModelConfig(Section):
    """The network."""

    backbone: BackboneConfig
    decoder: DecoderConfig = DecoderConfig()
    sharing: SharingConfig = Field(default=HardSharingConfig(), discriminator="type")
    init_from: dict[str, Text] = Field(
        default={},
        description="task -> trained model whose trunk and head of that task are the start",
    )
    heads: dict[str, Options] = Field(default={}, description="task -> options of its head")
    input_size: Size | None = Field(
        default=None,
        description="height and width of the input in evaluation and prediction; null: the images' own",
    )


class ConstantWeightingConfig(Section):
    """A fixed weight per task."""

    type: Literal["constant"] = "constant"
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="task -> weight, 1.0 if missing"
    )


class LossWeightingConfig(MethodSection):
    """Weights of the losses that change while training."""

    type: Literal[
        "uncertainty", "dwa", "rlw", "gls", "imtl_l", "stch", "famo", "db_mtl", "gradnorm"
    ]


class BalancingConfig(MethodSection):
    """Balances the gradients of the tasks on what they share."""

    type: Literal[
        "sum",
        "pcgrad",
        "gradvac",
        "mgda",
        "cagrad",
        "imtl_g",
        "nash_mtl",
        "aligned_mtl",
        "fairgrad",
        "upgrad",
        "torchjd",
    ]
    scope: Literal["parameters", "features"] = Field(
        default="parameters",
        description="gradients of the shared parameters, or at the shared pyramid",
    )
    every: Positive = Field(default=1, description="steps that keep their weights")


class OptimizerConfig(Section):
    """The optimiser."""

    name: Text = Field(default="adamw", description="a timm optimiser name")
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.05, ge=0)
    task_weight_decay: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="task -> weight decay of the parameters that only this task has"
    )
    backbone_lr_scale: float = Field(
        default=1.0, gt=0, le=10, description="learning rate of the backbone over lr"
    )


class ScheduleConfig(Section):
    """The learning rate over time."""

    name: Literal["cosine", "constant", "poly"] = "cosine"
    warmup_epochs: float = Field(
        default=1.0, ge=0, description="length of the linear warm-up, fractions allowed"
    )
    min_lr_scale: float = Field(default=0.01, ge=0, le=1, description="last learning rate over lr")


class TrainerConfig(Section):
    """The training loop."""

    epochs: Positive = 10
    batch_size: Positive = Field(default=8, description="samples per forward pass and process")
    eval_batch_size: Positive | None = Field(
        default=None,
        description="the same in evaluation; null: batch_size; 1 where images have different sizes",
    )
    accumulate: Positive = Field(default=1, description="forward passes per optimiser step")
    precision: Literal["fp32", "bf16"] = "fp32"
    clip_grad: float | None = Field(
        default=5.0, gt=0, description="largest gradient norm; null: no clipping"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of the averaged weights; null: none"
    )
    compile: bool = Field(default=False, description="torch.compile")
    channels_last: bool = True
    eval_every: Positive = Field(default=1, description="epochs between evaluations")
    checkpoint_every: Positive | None = Field(
        default=None, description="steps between checkpoints; null: every epoch"
    )
    nonfinite: Literal["raise", "skip"] = Field(
        default="raise", description="what a NaN or infinite loss does"
    )
    max_skipped: int = Field(default=10, ge=0, description="skipped steps after which a run ends")


class LoggingConfig(Section):
    """What a run writes down."""

    every: Positive = Field(default=20, description="steps between lines")
    tensorboard: bool = True
    pictures: int = Field(
        default=4, ge=0, le=32, description="validation samples drawn at each evaluation"
    )


class Config(Section):
    """A complete run."""

    seed: Seed = 0
    output_dir: Text = Field(default="runs", description="folder of the runs")
    data: RoomsData | FolderData | PackedData | MixtureData = Field(discriminator="type")
    tasks: Tasks = Field(
        default=None, description="tasks to train, in order; null: every task of the data set"
    )
    model: ModelConfig
    losses: dict[str, Options] = Field(
        default={}, description="task -> type and options of its loss"
    )
    weighting: Annotated[
        ConstantWeightingConfig | LossWeightingConfig, BeforeValidator(_with_type)
    ] = Field(default=ConstantWeightingConfig(), discriminator="type")
    balancing: BalancingConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    trainer: TrainerConfig = TrainerConfig()
    logging: LoggingConfig = LoggingConfig()
