"""Disparity, saliency and edges from the folder to the files of a prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from visionmtl import load_model, predict
from visionmtl.analysis.check import check_dataset
from visionmtl.analysis.evaluation import evaluate_model
from visionmtl.config.schema import Config
from visionmtl.data.folder import FolderDataset
from visionmtl.engine.run import train
from visionmtl.tasks import KINDS as ALL_KINDS
from visionmtl.tasks.disparity import DisparityResult
from visionmtl.tasks.edge import EdgeResult
from visionmtl.tasks.saliency import SaliencyResult

CPU = torch.device("cpu")
KINDS = ["disparity", "saliency", "edge"]
DATASET = """
name: squares
tasks:
- {name: disparity, kind: disparity, scale: 0.00390625, max_disparity: 64}
- {name: saliency, kind: saliency, positive_value: 255, ignore_value: null}
- {name: edge, kind: edge}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A near, salient square on each image, with its outline as the edges; one image has no edges
    annotated.
    """
    root = tmp_path_factory.mktemp("squares")
    (root / "dataset.yaml").write_text(DATASET)
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for i in range(count):
            mask = np.zeros((64, 64), np.uint8)
            y, x = rng.integers(4, 30, 2)
            mask[y : y + 24, x : x + 24] = 1
            image = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8) + 150 * mask[..., None]
            disparity = np.where(mask, 40 * 256, 8 * 256).astype(np.uint16)
            disparity[:5] = 0
            files: dict[str, np.ndarray] = {
                "rgb": image,
                "disparity": disparity,
                "saliency": 255 * mask,
            }
            if i:
                files["edge"] = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
            for folder, pixels in files.items():
                path = root / split / folder / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    return root


@pytest.fixture(scope="module")
def run(
    root: Path, tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Config]
) -> Path:
    """The folder of a run of two steps."""
    config = make_config(
        f"data={{type: folder, root: {root}, workers: 0}}",
        "tasks=null",
        "model.heads={}",
        "trainer.epochs=1",
        "logging.pictures=1",
        f"output_dir={tmp_path_factory.mktemp('runs')}",
    )
    return train(config, "kinds", device=CPU, console=Console(quiet=True))


def test_the_data_is_in_order(root: Path) -> None:
    report = check_dataset(FolderDataset(root, "train"), progress=False)
    assert report.ok
    assert report.notes == []
    assert [task.annotated for task in report.tasks] == [4, 4, 3]


def test_a_run_has_every_number_and_a_picture(run: Path) -> None:
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["score"] == np.mean(
        [last[kind][ALL_KINDS[kind].metric.score_key] for kind in KINDS]
    )
    assert cv2.imread(str(run / "pictures" / "epoch_0001.jpg")).shape[1] > 7 * 64
    card = (run / "model" / "README.md").read_text()
    assert "- **disparity** (disparity): 0 to 64" in card
    for kind in KINDS:
        for key in ALL_KINDS[kind].metric.higher_is_better_by_key:
            assert f"| {kind} | {key} | " in card
    assert "n/a" not in card


def test_the_model_tells_its_tasks(run: Path) -> None:
    summary = load_model(run).summary()
    assert [line.split()[0] for line in summary.splitlines()[2:]] == KINDS
    assert "0 to 64" in summary


def test_evaluation_of_the_finished_model(run: Path, root: Path) -> None:
    results = evaluate_model(
        run, FolderDataset(root, "val"), device=CPU, batch_size=2, console=Console(quiet=True)
    )
    assert results["samples"] == {"total": 3, "disparity": 3, "saliency": 3, "edge": 2}
    for kind in KINDS:
        assert np.isfinite(
            [results[kind][key] for key in ALL_KINDS[kind].metric.higher_is_better_by_key]
        ).all()


def test_prediction_of_a_file_of_another_size(run: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    result = predict(load_model(run), tmp_path / "a.png")
    disparity, saliency, edge = result.values()
    assert isinstance(disparity, DisparityResult)
    assert disparity.disparity.shape == (90, 120)
    assert 0 < disparity.disparity.min() <= disparity.disparity.max() < 64
    for mask, kind in ((saliency, SaliencyResult), (edge, EdgeResult)):
        assert isinstance(mask, kind)
        assert mask.probability.shape == (90, 120)
        assert 0 < mask.probability.min() < mask.probability.max() < 1
    result.save(tmp_path, "a")
    written = cv2.imread(str(tmp_path / "a_disparity.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(written / 256, disparity.disparity, atol=1 / 256)
