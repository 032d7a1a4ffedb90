"""The example of the page on data is one that is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from visionmtl.data.folder import FolderDataset
from visionmtl.tasks.drawing import save_image

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_example_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "dataset.yaml").write_text(example)
    (tmp_path / "train" / "rgb").mkdir(parents=True)
    save_image(tmp_path / "train" / "rgb" / "0001.png", np.zeros((240, 320, 3), np.uint8))
    dataset = FolderDataset(tmp_path, "train")
    assert [spec.name for spec in dataset.tasks] == ["semseg", "depth", "normals", "detection"]
    assert dataset[0].targets == {}
    assert dataset[0].camera is not None
