"""The page of the standard data sets against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from visionmtl.config.data import PackedData
from visionmtl.config.load import parse_config
from visionmtl.data.sets import PACKINGS

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text("utf-8")
CONFIGS = [
    block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "model:" in block
]


def test_every_packing_has_a_config() -> None:
    types = {config.data.type for config in map(parse_config, CONFIGS)}
    assert types == set(PACKINGS)


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: re.search(r"type: (\w+)", text)[1])
def test_configs_are_read_and_their_options_exist(text: str) -> None:
    data = parse_config(text).data
    assert isinstance(data, PackedData)
    parameters = inspect.signature(PACKINGS[data.type]).parameters
    assert set(data.options) <= {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert data.train.partition("[")[0] in PACKINGS[data.type].splits
    assert data.val.partition("[")[0] in PACKINGS[data.type].splits
