"""The table of docs/sharing.md is what really happens; run this file to print it."""

from __future__ import annotations

import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch

from visionmtl.models.backbone import Backbone, create_backbone
from visionmtl.models.decoders import FPN
from visionmtl.models.sharing import MTAN, SHARING

PAGE = Path(__file__).parents[3] / "docs" / "sharing.md"
BACKBONES = [
    "resnet18",
    "resnext50_32x4d",
    "convnextv2_atto",
    "regnety_002",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "swin_tiny_patch4_window7_224",
    "pvt_v2_b0",
    "fastvit_t8",
    "repvit_m0_9",
    "hrnet_w18_small",
    "vit_tiny_patch16_224",
]
LEVELS = {"semseg": (0, 1, 2, 3), "depth": (0, 1, 2, 3)}

pytestmark = pytest.mark.slow

SCHEMES = ["hard", "independent", "cross_stitch", "nddr", "mtan"]
"""The columns of the table."""


def header() -> list[str]:
    columns = ["backbone", *SCHEMES, "first half of the four stages (mtan)"]
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def row(name: str) -> str:
    """Try every scheme with two tasks on an image of 64 x 96."""
    backbone = create_backbone(name).eval()
    works = {scheme: try_sharing(scheme, backbone) for scheme in SCHEMES}
    cells = [f"`{name}`", *("refused" if model is None else "yes" for model in works.values())]
    mtan = works["mtan"]
    halves = ", ".join(map(str, mtan.backbone.halves)) if isinstance(mtan, MTAN) else "-"
    return f"| {' | '.join([*cells, halves])} |"


def try_sharing(scheme: str, backbone: Backbone) -> torch.nn.Module | None:
    """The scheme around copies of the backbone, or None where it is refused."""
    try:
        model = (
            SHARING[scheme]
            .build(LEVELS, partial(deepcopy, backbone), partial(FPN, channels=8))
            .eval()
        )
    except ValueError as error:
        if str(error).startswith(
            f"sharing {scheme} works between the stages of a backbone, and '{backbone.name}' has"
        ):
            return None
        raise
    with torch.no_grad():
        pyramids = model(torch.randn(1, 3, 64, 96))
    for task in LEVELS:
        assert [tuple(p.shape) for p in pyramids[task]] == [
            (1, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)
        ]
        assert all(p.isfinite().all() for p in pyramids[task])
    return model


def documented() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return text.split("<!-- families -->")[1].split("<!-- /families -->")[0].split("\n")[1:-1]


@pytest.mark.parametrize("name", BACKBONES)
def test_documented_row_is_what_happens(name: str) -> None:
    found = row(name)
    assert found in documented(), f"{PAGE.name}: the row of {name} is now\n{found}"


def test_documented_table_has_these_rows() -> None:
    assert set(SCHEMES) == set(SHARING)
    lines = documented()
    assert lines[:2] == header(), f"{PAGE.name}: the header is now\n" + "\n".join(header())
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| `{name}`" for name in BACKBONES]


if __name__ == "__main__":
    sys.stdout.write("\n".join([*header(), *map(row, BACKBONES), ""]))
