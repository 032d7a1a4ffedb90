"""The schema of a run: every key, its default and its range.

Reading files and writing error messages is the work of ``visionmtl.configfile``. What is checked here needs no model
and no data; names and options of losses, heads, backbones and optimisers are checked where these are built.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _plain(value: Any) -> Any:
    """Free options travel through YAML and checkpoints: finite numbers, strings, booleans, null, lists, mappings."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"option names must be strings, got {key!r}")
            _plain(item)
    elif isinstance(value, list):
        for item in value:
            _plain(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"options must be finite, got {value}")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError(f"options must be plain values, got {type(value).__name__}")
    return value


def _step(value: dict[str, Any]) -> dict[str, Any]:
    from visionmtl.data.steps import parse_step  # it needs NumPy, which a config without steps does not

    parse_step(value)
    return value


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be two integers [height, width]")
    return tuple(value)


def _flag_or_source(value: Any) -> Any:
    if not isinstance(value, bool | str) or value == "":
        raise ValueError("must be true, false or a source of weights")
    return value


def _with_type(value: Any) -> Any:
    return {"type": "constant", **value} if isinstance(value, dict) else value


def _task_names(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("must name at least one task; null means every task of the data set")
    repeated = sorted({task for task in value if value.count(task) > 1})
    if repeated:
        raise ValueError(f"repeated tasks: {', '.join(repeated)}")
    return value


def _set_name(value: str) -> str:
    if not value.isidentifier():
        raise ValueError("must be letters, digits and underscores, no digit first")
    return value


def _set_names(value: list[Any]) -> list[Any]:
    if not value:
        raise ValueError("must have at least one set")
    names = [part.name for part in value]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"repeated sets: {', '.join(repeated)}")
    return value


def _split(value: str) -> str:
    from visionmtl.data.subset import parse_split

    parse_split(value)
    return value


Text = Annotated[str, Field(min_length=1)]
Options = Annotated[dict[str, Any], AfterValidator(_plain)]
TransformStep = Annotated[Options, AfterValidator(_step)]
Side = Annotated[int, Field(ge=32, le=2048)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Split = Annotated[Text, AfterValidator(_split)]
Root = Annotated[Text, Field(description="folder of the data set; a relative one starts at the current directory")]
Labels = Annotated[
    dict[str, Share], Field(description="task -> share of the training samples that keeps its label, a seeded choice")
]
Workers = Annotated[int, Field(ge=0, le=64, description="loader processes")]
SetName = Annotated[str, AfterValidator(_set_name), Field(description="of the set, in ids and task names")]
Tasks = Annotated[list[Text], AfterValidator(_task_names)] | None


class Section(BaseModel):
    """A mapping of the config: unknown keys, values of another type, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TransformsConfig(Section):
    """Steps applied to image and targets together, in order: mappings with a ``type`` and its options."""

    train: list[TransformStep] = Field(default=[], description="steps for training samples")
    val: list[TransformStep] = Field(default=[], description="steps for validation samples")
    zoom: Literal["focal", "fixed_intrinsics"] = Field(
        default="focal", description="what random_scale_crop means for depth: a longer focal length, or a nearer scene"
    )


class MethodSection(Section):
    """A method and its options, which are free here: they are checked against its constructor."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain)]]

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not in the schema."""
        return dict(self.__pydantic_extra__)


class RoomsSplit(Section):
    """One split of the procedural rooms."""

    samples: Positive = Field(default=512, description="number of images")
    seed: Seed = Field(default=0, description="rooms of another seed are other rooms")
    drop_labels: dict[str, Share] = Field(
        default={}, description="task -> share of the samples that lose its annotation"
    )


class RoomsValSplit(RoomsSplit):
    """The validation split: its own seed, also where only ``samples`` is given."""

    samples: Positive = Field(default=64, description="number of images")
    seed: Seed = Field(default=1, description="rooms of another seed are other rooms")


class RoomsSource(Section):
    """Procedural rooms, drawn while training: nothing to download."""

    type: Literal["rooms"]
    size: Size = Field(default=(128, 160), description="height and width in pixels")
    train: RoomsSplit = RoomsSplit()
    val: RoomsValSplit = RoomsValSplit()
    transforms: TransformsConfig = TransformsConfig()


class FolderSource(Section):
    """Images and targets on disk, in the project's own format."""

    type: Literal["folder"]
    root: Root
    train: Annotated[Split, Field(description="training split, or a part of it")] = "train"
    val: Annotated[Split, Field(description="validation split, or a part of it")] = "val"
    labels: Labels = {}
    derive_normals: bool = Field(default=False, description="compute surface normals from depth and camera")
    cache: Text | None = Field(default=None, description="folder for the decoded samples; null: decode every time")
    transforms: TransformsConfig = TransformsConfig()


class PackedSource(MethodSection):
    """A standard data set on disk, in one of the packings that people have."""

    type: Literal[
        "nyuv2_mtan",
        "nyuv2_atrc",
        "nyuv2_official",
        "pascal_context",
        "cityscapes",
        "cityscapes_mtan",
        "coco",
        "taskonomy",
    ]
    root: Root
    train: Annotated[Split, Field(description="training split, or a part of it")] = "train"
    val: Annotated[Split, Field(description="validation split, or a part of it")] = "val"
    labels: Labels = {}
    transforms: TransformsConfig = TransformsConfig()


class RoomsData(RoomsSource):
    """The procedural rooms as the data of a run."""

    workers: int = Field(default=0, ge=0, le=64, description="loader processes")


class FolderData(FolderSource):
    """A folder as the data of a run."""

    workers: Workers = 2


class PackedData(PackedSource):
    """A standard data set as the data of a run."""

    workers: Workers = 2


class RoomsSet(RoomsSource):
    """The procedural rooms as a part of a mixture."""

    name: SetName
    tasks: Tasks = None


class FolderSet(FolderSource):
    """A folder as a part of a mixture."""

    name: SetName
    tasks: Tasks = None


class PackedSet(PackedSource):
    """A standard data set as a part of a mixture."""

    name: SetName
    tasks: Tasks = None


class MixtureData(Section):
    """Several data sets with different tasks and classes, trained as one."""

    type: Literal["mixture"]
    sets: Annotated[
        list[Annotated[RoomsSet | FolderSet | PackedSet, Field(discriminator="type")]], AfterValidator(_set_names)
    ]
    heads: Literal["shared", "per_set"] = Field(
        default="shared",
        description="tasks of one name are one task, with the classes of all sets; or each set has its own",
    )
    sampling: Literal["size", "even", "temperature"] = Field(
        default="size", description="how much of an epoch comes from which set"
    )
    temperature: float = Field(
        default=2.0, ge=1, description="of sampling temperature: 1 is by size, larger is more even"
    )
    workers: Workers = 2


Source = RoomsSource | FolderSource | PackedSource


def sources(data: Source | MixtureData) -> list[Source]:
    """The data sets of a run: those of a mixture, or the only one."""
    return list(data.sets) if isinstance(data, MixtureData) else [data]


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
    penalty: Literal["l2_distance", "trace_norm"] | None = Field(default=None, description="soft sharing; null: none")
    penalty_weight: float = Field(default=1e-4, ge=0, description="factor of the penalty in the loss")


class CrossStitchConfig(Section):
    """A backbone and decoder per task, and weighted sums of their maps after each stage."""

    type: Literal["cross_stitch"]
    alpha: float = Field(default=0.9, ge=0, le=1, description="weight of a task's own maps at the start")
    lr_scale: float = Field(default=10.0, gt=0, le=1000, description="learning rate of the units over lr")


class NDDRConfig(Section):
    """A backbone and decoder per task, and 1x1 convolutions over all their maps after each stage."""

    type: Literal["nddr"]
    alpha: float = Field(default=1.0, ge=0, le=1, description="weight of a task's own maps at the start")
    lr_scale: float = Field(default=1.0, gt=0, le=1000, description="learning rate of the units over lr")


class MTANConfig(Section):
    """One backbone, and an attention path and a decoder per task."""

    type: Literal["mtan"]


SharingConfig = HardSharingConfig | IndependentSharingConfig | CrossStitchConfig | NDDRConfig | MTANConfig


class ModelConfig(Section):
    """The network."""

    backbone: BackboneConfig
    decoder: DecoderConfig = DecoderConfig()
    sharing: SharingConfig = Field(default=HardSharingConfig(), discriminator="type")
    init_from: dict[str, Text] = Field(
        default={}, description="task -> trained model whose trunk and head of that task are the start"
    )
    heads: dict[str, Options] = Field(default={}, description="task -> options of its head")
    input_size: Size | None = Field(
        default=None, description="height and width of the input in evaluation and prediction; null: the images' own"
    )


class ConstantWeightingConfig(Section):
    """A fixed weight per task."""

    type: Literal["constant"] = "constant"
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default={}, description="task -> weight, 1.0 if missing")


class LossWeightingConfig(MethodSection):
    """Weights of the losses that change while training."""

    type: Literal["uncertainty", "dwa", "rlw", "gls", "imtl_l", "stch", "famo", "db_mtl", "gradnorm"]


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
        default="parameters", description="gradients of the shared parameters, or at the shared pyramid"
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
    backbone_lr_scale: float = Field(default=1.0, gt=0, le=10, description="learning rate of the backbone over lr")


class ScheduleConfig(Section):
    """The learning rate over time."""

    name: Literal["cosine", "constant", "poly"] = "cosine"
    warmup_epochs: float = Field(default=1.0, ge=0, description="length of the linear warm-up, fractions allowed")
    min_lr_scale: float = Field(default=0.01, ge=0, le=1, description="last learning rate over lr")


class TrainerConfig(Section):
    """The training loop."""

    epochs: Positive = 10
    batch_size: Positive = Field(default=8, description="samples per forward pass and process")
    eval_batch_size: Positive | None = Field(
        default=None, description="the same in evaluation; null: batch_size; 1 where images have different sizes"
    )
    accumulate: Positive = Field(default=1, description="forward passes per optimiser step")
    precision: Literal["fp32", "bf16"] = "fp32"
    clip_grad: float | None = Field(default=5.0, gt=0, description="largest gradient norm; null: no clipping")
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of the averaged weights; null: none")
    compile: bool = Field(default=False, description="torch.compile")
    channels_last: bool = True
    eval_every: Positive = Field(default=1, description="epochs between evaluations")
    checkpoint_every: Positive | None = Field(default=None, description="steps between checkpoints; null: every epoch")
    nonfinite: Literal["raise", "skip"] = Field(default="raise", description="what a NaN or infinite loss does")
    max_skipped: int = Field(default=10, ge=0, description="skipped steps after which a run ends")


class LoggingConfig(Section):
    """What a run writes down."""

    every: Positive = Field(default=20, description="steps between lines")
    tensorboard: bool = True
    pictures: int = Field(default=4, ge=0, le=32, description="validation samples drawn at each evaluation")


class Config(Section):
    """A complete run."""

    seed: Seed = 0
    output_dir: Text = Field(default="runs", description="folder of the runs")
    data: RoomsData | FolderData | PackedData | MixtureData = Field(discriminator="type")
    tasks: Tasks = Field(default=None, description="tasks to train, in order; null: every task of the data set")
    model: ModelConfig
    losses: dict[str, Options] = Field(default={}, description="task -> type and options of its loss")
    weighting: Annotated[ConstantWeightingConfig | LossWeightingConfig, BeforeValidator(_with_type)] = Field(
        default=ConstantWeightingConfig(), discriminator="type"
    )
    balancing: BalancingConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    trainer: TrainerConfig = TrainerConfig()
    logging: LoggingConfig = LoggingConfig()
