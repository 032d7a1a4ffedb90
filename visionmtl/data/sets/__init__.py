"""The standard data sets, by packing. Where to get them and what was checked: docs/datasets.md."""

# The folder format is registered first: its dataset.yaml settles what a folder is.
import visionmtl.data.folder
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.sets.cityscapes import Cityscapes
from visionmtl.data.sets.cityscapes_mtan import CityscapesMTAN
from visionmtl.data.sets.coco import Coco
from visionmtl.data.sets.nyuv2_atrc import NYUv2ATRC
from visionmtl.data.sets.nyuv2_mtan import NYUv2MTAN
from visionmtl.data.sets.nyuv2_official import NYUv2Official
from visionmtl.data.sets.pascal_context import PascalContext
from visionmtl.data.sets.taskonomy import Taskonomy

__all__ = [
    "Cityscapes",
    "CityscapesMTAN",
    "Coco",
    "NYUv2ATRC",
    "NYUv2MTAN",
    "NYUv2Official",
    "PackedDataset",
    "PascalContext",
    "Taskonomy",
]
