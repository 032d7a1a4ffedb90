"""Registers the data sets as ``DATASETS`` wants them, until their own modules do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from visionmtl._options import Fraction, Positive, Seed, Sides
from visionmtl.data.base import DATASETS
from visionmtl.data.folder import FolderDataset
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.sets.cityscapes import Cityscapes
from visionmtl.data.sets.cityscapes_mtan import CityscapesMTAN
from visionmtl.data.sets.coco import Coco
from visionmtl.data.sets.nyuv2_atrc import NYUv2ATRC
from visionmtl.data.sets.nyuv2_mtan import NYUv2MTAN
from visionmtl.data.sets.nyuv2_official import NYUv2Official
from visionmtl.data.sets.pascal_context import PascalContext
from visionmtl.data.sets.taskonomy import Taskonomy

Samples = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class RoomsSplit:
    """One split of the procedural rooms.

    Args:
        samples: number of images.
        seed: rooms of another seed are other rooms.
        drop_labels: task -> share of the samples that lose this task's labels.
    """

    samples: Samples = 512
    seed: Seed = 0
    drop_labels: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class RoomsValSplit(RoomsSplit):
    """The validation split.

    Args:
        samples: number of images.
        seed: keep it different from that of training.
        drop_labels: task -> share of the samples that lose this task's labels.
    """

    samples: Samples = 64
    seed: Seed = 1


@DATASETS.register("rooms")
class Rooms(RoomsDataset):
    """Procedural rooms, drawn while training.

    Args:
        size: height and width in pixels.
    """

    split_types: ClassVar[dict[str, type]] = {"train": RoomsSplit, "val": RoomsValSplit}

    @classmethod
    def build(
        cls,
        split: RoomsSplit,
        tasks: Any = None,
        *,
        size: Annotated[tuple[int, int], Sides(32, 2048)] = (128, 160),
    ) -> Self:
        return cls(split.samples, size, split.seed, tasks, dict(split.drop_labels))


@DATASETS.register("folder")
class Folder(FolderDataset):
    """Images and targets on disk, in the project's own format.

    Args:
        derive_normals: add a task ``normals``, computed from depth and camera.
    """

    title = "a data set in the folder format"

    def __init__(
        self, root: Path | str, split: str, tasks: Any = None, *, derive_normals: bool = False
    ) -> None:
        super().__init__(root, split, tasks, derive_normals=derive_normals)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (root / "dataset.yaml").is_file()


Frame = Literal["y_down", "y_up", "x_left", "z_up", "y_down_z_back"]


def _with_hints(cls: Any, **hints: Any) -> Any:
    """The types of options that are checked by hand."""
    cls.__init__.__annotations__.update(hints)
    return cls


DATASETS.register("nyuv2_mtan")(NYUv2MTAN)
DATASETS.register("nyuv2_atrc")(NYUv2ATRC)
DATASETS.register("nyuv2_official")(_with_hints(NYUv2Official, num_classes=Literal[40, 13]))
DATASETS.register("pascal_context")(PascalContext)
DATASETS.register("cityscapes")(Cityscapes)
DATASETS.register("cityscapes_mtan")(CityscapesMTAN)
DATASETS.register("coco")(Coco)
DATASETS.register("taskonomy")(_with_hints(Taskonomy, max_depth=Positive))
