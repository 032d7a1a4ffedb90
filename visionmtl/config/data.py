"""The schema of ``data``: where samples come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from visionmtl.config.sections import (
    MethodSection,
    Options,
    Positive,
    Section,
    Seed,
    Share,
    Size,
    Tasks,
    Text,
)


def _step(value: dict[str, Any]) -> dict[str, Any]:
    from visionmtl.data.transforms.base import (
        build_augmentation,
    )  # it needs NumPy, which a config without steps does not

    build_augmentation(value)
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


TransformStep = Annotated[Options, AfterValidator(_step)]
Split = Annotated[Text, AfterValidator(_split)]
Root = Annotated[
    Text,
    Field(description="folder of the data set; a relative one starts at the current directory"),
]
Labels = Annotated[
    dict[str, Share],
    Field(
        description="task -> share of the training samples that keeps its label, a seeded choice"
    ),
]
Workers = Annotated[int, Field(ge=0, le=64, description="loader processes")]
SetName = Annotated[
    str, AfterValidator(_set_name), Field(description="of the set, in ids and task names")
]


class TransformsConfig(Section):
    """Steps applied to image and targets together, in order: mappings with a ``type`` and its
    options.
    """

    train: list[TransformStep] = Field(default=[], description="steps for training samples")
    val: list[TransformStep] = Field(default=[], description="steps for validation samples")
    zoom: Literal["focal", "fixed_intrinsics"] = Field(
        default="focal",
        description="what random_scale_crop means for depth: a longer focal length, or a nearer scene",
    )


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
    labels: Labels = Field(default={})
    derive_normals: bool = Field(
        default=False, description="compute surface normals from depth and camera"
    )
    cache: Text | None = Field(
        default=None, description="folder for the decoded samples; null: decode every time"
    )
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
    labels: Labels = Field(default={})
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
        list[Annotated[RoomsSet | FolderSet | PackedSet, Field(discriminator="type")]],
        AfterValidator(_set_names),
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
