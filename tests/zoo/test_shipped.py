"""What ships with the repository works from the clone alone: checkpoint, sample data,
photographs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from visionmtl import list_models, load_model, predict
from visionmtl.analysis.check import check_dataset
from visionmtl.analysis.evaluation import evaluate_model
from visionmtl.data.folder import FolderDataset
from visionmtl.zoo.registry import CHECKPOINTS, read_registry
from visionmtl.zoo.show import zoo_verify

ASSETS = Path(__file__).parents[2] / "assets"
NAME = "rooms3d_efficientnet_lite0"


def test_the_checkpoint_is_small_and_verified() -> None:
    assert NAME in list_models()
    assert zoo_verify([NAME]) == [(NAME, None)]
    assert sum(path.stat().st_size for path in (CHECKPOINTS / NAME).iterdir()) < 10e6


def test_the_sample_data_is_small_sound_and_credited() -> None:
    sample = ASSETS / "rooms3d_sample"
    assert sum(path.stat().st_size for path in sample.rglob("*") if path.is_file()) < 6e6
    assert (sample / "CREDITS.md").is_file()
    assert check_dataset(FolderDataset(sample, "val"), progress=False).ok


@pytest.mark.slow
def test_the_checkpoint_has_the_metrics_of_its_entry() -> None:
    dataset = FolderDataset(ASSETS / "rooms3d_sample", "val")
    results = evaluate_model(NAME, dataset, device=torch.device("cpu"), console=Console(quiet=True))
    for key, value in read_registry()[NAME].metrics.items():
        task, metric = key.split("/")
        assert results[task][metric] == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "china.jpg"])
def test_photographs_are_predicted_at_their_own_size(name: str) -> None:
    result = predict(load_model(NAME), ASSETS / "photos" / name)
    height, width = result.image.shape[:2]
    assert list(result) == ["semseg", "depth", "normals", "detection"]
    parts: dict[str, Any] = dict(result)
    assert parts["semseg"].class_ids.shape == (height, width)
    assert parts["depth"].metres.shape == (height, width)
    assert 0 < parts["depth"].metres.min() <= parts["depth"].metres.max() <= 10
    assert np.allclose(np.linalg.norm(parts["normals"].vectors, axis=-1), 1, atol=1e-4)
    boxes = parts["detection"].boxes
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all()
    assert (boxes[:, 1::2] <= height).all()
