"""The schema of ``data``: where samples come from.

What a data set asks of its constructor decides over the keys of its section: ``root``, and the
``split``, by name or with settings of its own (``split_types``). All else are its options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

# The data sets and augmentations of the package register themselves.
import visionmtl.data.rooms.dataset
import visionmtl.data.sets
import visionmtl.data.transforms  # noqa: F401
from visionmtl._options import given_names, options_model
from visionmtl.config.sections import Choice, Class, Model, Section, Share, Tasks, Text, default_of
from visionmtl.data.base import DATASETS
from visionmtl.data.subset import parse_split
from visionmtl.data.transforms.base import AUGMENTATIONS

MIXTURE = "mixture"
MAX_WORKERS = 64


def _set_name(value: str) -> str:
    if not value.isidentifier():
        raise ValueError("must be letters, digits and underscores, no digit first")
    return value


def _set_names(value: list[SetConfig]) -> list[SetConfig]:
    if not value:
        raise ValueError("must have at least one set")
    names = [part.name for part in value]
    repeated = sorted(name for name in set(names) if names.count(name) > 1)
    if repeated:
        raise ValueError(f"repeated sets: {', '.join(repeated)}")
    return value


def _split(value: str) -> str:
    parse_split(value)
    return value


Split = Annotated[Text, AfterValidator(_split)]
Workers = Annotated[int, Field(ge=0, le=MAX_WORKERS)]
SetName = Annotated[str, AfterValidator(_set_name)]


class AugmentationConfig(Choice):
    """An augmentation and its options."""

    registry = AUGMENTATIONS


class TransformsConfig(Section):
    """Augmentations of image and targets together, in order."""

    train: list[AugmentationConfig] = Field(default=[], description="of the training samples")
    val: list[AugmentationConfig] = Field(default=[], description="of the validation samples")
    zoom: Literal["focal", "fixed_intrinsics"] = Field(
        default="focal",
        description=(
            "what a change of scale means for depth and normals in training: a longer focal "
            "length, or a nearer scene"
        ),
    )


class DataConfig(Choice):
    """A data set: a class of ``DATASETS``, what it reads, and how its samples are changed."""

    registry = DATASETS
    options_before: ClassVar[str] = "train"

    root: Text | None = Field(
        default=None,
        description="folder of the data set; a relative one starts at the current directory",
    )
    train: Any = Field(default=None, description="the training split")
    val: Any = Field(default=None, description="the validation split")
    labels: dict[str, Share] = Field(
        default={},
        description=(
            "task -> share of the training samples that keeps its label, chosen by `seed`; a "
            "larger share holds the smaller ones. Samples that lose the labels of every task are "
            "left out"
        ),
    )
    cache: Text | None = Field(
        default=None,
        description="folder for the decoded samples, memory-mapped; null: decode every time",
    )
    transforms: TransformsConfig = default_of(TransformsConfig)

    @classmethod
    def own_fields(cls, chosen: Class) -> dict[str, Any]:
        fields = super().own_fields(chosen)
        asked = given_names(chosen)
        if "root" in asked:
            fields["root"] = (Text, Field(description=cls.model_fields["root"].description))
        else:
            del fields["root"]
        if not hasattr(chosen, "stamp"):
            del fields["cache"]
        if hasattr(chosen, "split_types"):
            del fields["labels"]
            for role, kind in chosen.split_types.items():
                fields[role] = (options_model(kind), default_of(options_model(kind)))
        else:
            for role in ("train", "val"):
                described = f"{cls.model_fields[role].description}, or a part of it"
                fields[role] = (Split, Field(default=role, description=described))
        return fields

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Any:
        made = super().read(value)
        for role, kind in getattr(cls.registry[made.type], "split_types", {}).items():
            setattr(made, role, kind(**dict(getattr(made, role))))
        return made


class RunData(DataConfig):
    """A data set as the data of a run."""

    workers: Workers = Field(
        default=2, description="loader processes; samples do not depend on their number"
    )

    @classmethod
    def names(cls) -> list[str]:
        return [*super().names(), MIXTURE]

    @classmethod
    def shape(cls, value: Any) -> Model:
        if _is_mixture(value):
            return MixtureData
        return super().shape(value)

    @classmethod
    def own_fields(cls, chosen: Class) -> dict[str, Any]:
        fields = super().own_fields(chosen)
        if "root" not in fields:  # nothing is read
            described = cls.model_fields["workers"].description
            fields["workers"] = (Workers, Field(default=0, description=described))
        return fields


class SetConfig(DataConfig):
    """A data set as a part of a mixture."""

    name: SetName = Field(description="of the set, in ids and task names")
    tasks: Tasks = Field(
        default=None,
        description=(
            "the tasks to take from the set, by their own names; null: all. What is not taken is "
            "not read, while `tasks` of the run alone leaves out what was read"
        ),
    )


class MixtureData(Section):
    """Several data sets with different tasks and classes, trained as one."""

    type: Literal["mixture"]
    sets: Annotated[list[SetConfig], AfterValidator(_set_names)] = Field(
        description=(
            "each has a `name`, the keys of its `type` but `workers`, and optionally `tasks`"
        )
    )
    heads: Literal["shared", "per_set"] = Field(
        default="shared",
        description=(
            "tasks of one name are one task with the classes of all sets, matched by name; or each "
            "set has tasks of its own, `<set>_<task>`"
        ),
    )
    sampling: Literal["size", "even", "temperature"] = Field(
        default="size",
        description=(
            "how much of an epoch comes from which set; an epoch has as many samples as all sets "
            "together"
        ),
    )
    temperature: float = Field(
        default=2.0,
        ge=1,
        description=(
            "with `temperature`: a set of n samples has a share in proportion to "
            "n^(1/temperature); 1 is by size, larger is more even"
        ),
    )
    workers: Workers = Field(
        default=2, description="loader processes; samples do not depend on their number"
    )


def _read_data(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    # Here, so that the mistakes are those of one alternative, not of both.
    if _is_mixture(value):
        return MixtureData.model_validate(value)
    return RunData.model_validate(value)


Data = Annotated[RunData | MixtureData, BeforeValidator(_read_data)]


def sources(data: RunData | MixtureData) -> list[DataConfig]:
    """The data sets of a run: those of a mixture, or the only one."""
    if isinstance(data, MixtureData):
        return list(data.sets)
    return [data]


def _is_mixture(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == MIXTURE
