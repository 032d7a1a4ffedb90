"""The parts of the page on extending train from the configs of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
RUN = """
data:
  type: rooms
  size: [96, 128]
  train: {samples: 4}
  val: {samples: 2}
tasks: [depth, normals]
model: {backbone: {name: test_resnet}}
trainer: {epochs: 1, batch_size: 2, channels_last: false}
logging: {pictures: 0, tensorboard: false}
"""


def merged(old: dict, new: dict) -> dict:
    both = dict(old)
    for key, value in new.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def plugins(tmp_path: Path) -> list[str]:
    """The files of the page, as arguments."""
    arguments = []
    for number, text in enumerate(blocks("python")):
        file = tmp_path / f"part_of_page_{number}.py"
        file.write_text(text)
        arguments += ["--plugin", str(file)]
    return arguments


def visionmtl(*arguments: str) -> str:
    """The output of a command, in a process whose registries this one does not see."""
    command = [sys.executable, "-m", "visionmtl", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_parts_train(tmp_path: Path, plugins: list[str]) -> None:
    yaml = YAML(typ="safe")
    config = yaml.load(RUN)
    for text in blocks("yaml"):
        part = yaml.load(text)
        if "root" not in part.get("data", {}):
            config = merged(config, part)
    assert config["model"].keys() == {"backbone", "heads", "decoder"}
    file = tmp_path / "run.yaml"
    with file.open("w") as stream:
        yaml.dump(config, stream)
    visionmtl("train", str(file), "--output-dir", str(tmp_path / "run"), *plugins)
    assert (tmp_path / "run" / "model").is_dir()


def test_the_data_set_is_a_choice(tmp_path: Path, plugins: list[str]) -> None:
    (text,) = (block for block in blocks("yaml") if "root:" in block)
    file = tmp_path / "run.yaml"
    file.write_text(f"{text}model: {{backbone: {{name: test_resnet}}}}")
    assert "threshold: 100" in visionmtl("train", str(file), "--print-config", *plugins)
