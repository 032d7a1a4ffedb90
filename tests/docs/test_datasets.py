"""The page of the standard data sets against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from visionmtl.config.data import RunData
from visionmtl.config.load import parse_config
from visionmtl.data.base import DATASETS
from visionmtl.data.sets.base import PackedDataset

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text("utf-8")
CONFIGS = [
    block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "model:" in block
]


def test_every_packing_has_a_config() -> None:
    types = {config.data.type for config in map(parse_config, CONFIGS)}
    packings = {name for name, cls in DATASETS.items() if issubclass(cls, PackedDataset)}
    assert types >= packings


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: re.search(r"type: (\w+)", text)[1])
def test_configs_are_read_and_their_options_exist(text: str) -> None:
    data = parse_config(text).data
    assert isinstance(data, RunData)
    packing = DATASETS[data.type]
    assert issubclass(packing, PackedDataset)
    assert data.train.partition("[")[0] in packing.splits
    assert data.val.partition("[")[0] in packing.splits
