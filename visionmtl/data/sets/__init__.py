"""The standard data sets, by packing. Where to get them and what was checked: docs/datasets.md."""

from __future__ import annotations

from pathlib import Path

from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.sets.cityscapes import Cityscapes
from visionmtl.data.sets.cityscapes_mtan import CityscapesMTAN
from visionmtl.data.sets.coco import Coco
from visionmtl.data.sets.nyuv2_atrc import NYUv2ATRC
from visionmtl.data.sets.nyuv2_mtan import NYUv2MTAN
from visionmtl.data.sets.nyuv2_official import NYUv2Official
from visionmtl.data.sets.pascal_context import PascalContext
from visionmtl.data.sets.taskonomy import Taskonomy

PACKINGS: dict[str, type[PackedDataset]] = {
    "nyuv2_mtan": NYUv2MTAN,
    "nyuv2_atrc": NYUv2ATRC,
    "nyuv2_official": NYUv2Official,
    "pascal_context": PascalContext,
    "cityscapes": Cityscapes,
    "cityscapes_mtan": CityscapesMTAN,
    "coco": Coco,
    "taskonomy": Taskonomy,
}
"""Type in a config -> reader."""


def identify(root: Path | str) -> str | None:
    """The packing that a folder looks like, ``folder`` for the project's own format, or None."""
    root = Path(root)
    if (root / "dataset.yaml").is_file():
        return "folder"
    return next((name for name, reader in PACKINGS.items() if reader.matches(root)), None)


def title_of(packing: str) -> str:
    """What messages call it."""
    return "a data set in the folder format" if packing == "folder" else PACKINGS[packing].title
