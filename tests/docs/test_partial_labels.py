"""The examples of the page on partial labels are configs."""

from __future__ import annotations

import re
from pathlib import Path

from visionmtl.config.data import MixtureData, RunData
from visionmtl.config.load import parse_config

PAGE = (Path(__file__).parents[2] / "docs" / "partial_labels.md").read_text("utf-8")


def test_the_examples_are_read() -> None:
    mixture, labels = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert isinstance(parse_config(mixture).data, MixtureData)
    data = parse_config(f"{labels}model: {{backbone: {{name: resnet18}}}}").data
    assert isinstance(data, RunData)
    assert data.labels == {"semseg": 0.1}
