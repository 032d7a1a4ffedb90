from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from visionmtl.config.load import parse_config
from visionmtl.config.schema import Config
from visionmtl.engine.build import build_model
from visionmtl.engine.run import build_trainer
from visionmtl.engine.trainer import Trainer
from visionmtl.models.multitask import MultiTaskModel

TINY = """
data:
  type: rooms
  size: [64, 64]
  train: {samples: 12}
  val: {samples: 3}
  transforms:
    train: [{type: horizontal_flip, p: 0.5}, {type: gaussian_noise, p: 0.5}]
tasks: [semseg, depth]
model:
  backbone: {name: test_resnet}
  decoder: {channels: 8}
  heads: {semseg: {channels: 8}, depth: {channels: 8}}
trainer: {epochs: 2, batch_size: 2, channels_last: false}
logging: {every: 2, pictures: 0, tensorboard: false}
"""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """A run of a second; give overrides ``a.b=c``."""
    return lambda *overrides: parse_config(TINY, overrides=overrides)


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for a mixture of two folder sets that have no task in common.

    ``streets`` has 10 training and 3 validation samples with semseg; ``halls`` has 6 and 2 with
    depth, and validation images of another size.
    """
    root, rng = tmp_path_factory.mktemp("mixture"), np.random.default_rng(0)
    entries = {
        "streets": "{name: semseg, kind: semseg, classes: [road, car, tree]}",
        "halls": "{name: depth, kind: depth, scale: 0.001, max_depth: 10.0}",
    }
    for name, task in entries.items():
        for split, count in (
            ("train", 10 if name == "streets" else 6),
            ("val", 3 if name == "streets" else 2),
        ):
            width = 96 if (name, split) == ("halls", "val") else 64
            for i in range(count):
                image = rng.integers(0, 256, (64, width, 3), dtype=np.uint8)
                semseg, depth = image[..., 0] // 86, 1000 + 30 * image[..., 1].astype(np.uint16)
                label = semseg if name == "streets" else depth
                for kind, array in (
                    ("rgb", image),
                    ("semseg" if name == "streets" else "depth", label),
                ):
                    (root / name / split / kind).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(root / name / split / kind / f"{i}.png")
        (root / name / "dataset.yaml").write_text(f"name: {name}\ntasks: [{task}]\n")
    flip = "transforms: {train: [{type: horizontal_flip}]}"
    sets = ", ".join(
        f"{{type: folder, name: {name}, root: {root / name}, {flip}}}" for name in entries
    )
    return (f"data={{type: mixture, workers: 0, sets: [{sets}]}}",)


@pytest.fixture
def make_trainer(make_config: Callable[..., Config]) -> Callable[..., Trainer]:
    """A trainer in a folder, which is made; give overrides and options of ``build_trainer``."""

    def make(folder: Path, *overrides: str, **options: Any) -> Trainer:
        folder.mkdir(parents=True, exist_ok=True)
        options.setdefault("console", Console(quiet=True))
        return build_trainer(make_config(*overrides), folder, torch.device("cpu"), **options)

    return make


@pytest.fixture(scope="session")
def add_dropout() -> Callable[[pytest.MonkeyPatch], None]:
    """Makes the tiny backbone draw random numbers, as real ones do."""

    def drop(part: torch.nn.Module, _: Any, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [F.dropout(x, 0.1, part.training) for x in maps]

    def build(*args: Any) -> MultiTaskModel:
        model = build_model(*args)
        model.sharing.backbones[0].register_forward_hook(drop)
        return model

    return lambda patch: patch.setattr("visionmtl.engine.run.build_model", build)
