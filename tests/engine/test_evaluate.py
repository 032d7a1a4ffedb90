from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visionmtl.data.loader import make_loader
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.transforms.joint import build_transform
from visionmtl.engine.callbacks.pictures import PictureCollector
from visionmtl.engine.evaluate import evaluate
from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch

CPU = torch.device("cpu")
ROOMS = RoomsDataset(5, (64, 64))


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    torch.manual_seed(0)
    return create_model(
        "test_resnet",
        ROOMS.tasks,
        decoder_options={"channels": 8},
        heads={s.name: {"channels": 8} for s in ROOMS.tasks},
    )


def batches(batch_size: int, data: RoomsDataset = ROOMS) -> Any:
    transform = build_transform(data.tasks, [])
    return make_loader(data, data.tasks, transform, batch_size=batch_size, train=False)[0]


def test_every_sample_counts_once_whatever_the_batch_size(model: MultiTaskModel) -> None:
    one, four = (evaluate(model, batches(size), CPU) for size in (1, 4))
    assert one is not None
    assert four is not None
    assert one["samples"] == dict.fromkeys(["total", "semseg", "depth", "normals", "detection"], 5)
    for task in ("semseg", "depth", "normals", "detection"):
        for key, value in one[task].items():
            if isinstance(value, float):
                assert four[task][key] == pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True)


def test_modes_are_restored_and_buffers_untouched(model: MultiTaskModel) -> None:
    model.train()
    model.heads["depth"].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, batches(2), CPU)
    assert model.training
    assert not model.heads["depth"].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train()


def test_callback_and_early_stop(model: MultiTaskModel) -> None:
    seen: list[int] = []

    def on_batch(batch: Batch, predictions: dict[str, Any]) -> None:
        assert set(predictions) == set(batch.targets)
        seen.append(len(batch.sample_ids))

    assert (
        evaluate(model, batches(2), CPU, on_batch=on_batch, should_stop=lambda: len(seen) == 2)
        is None
    )
    assert seen == [2, 2]


def test_tasks_without_truth_are_nan(model: MultiTaskModel) -> None:
    data = RoomsDataset(2, (64, 64), drop_labels={"normals": 1.0, "detection": 1.0})
    results = evaluate(model, batches(2, data), CPU)
    assert results is not None
    assert np.isnan(results["normals"]["mean"])
    assert np.isnan(results["detection"]["map"])
    assert results["samples"] == {"total": 2, "semseg": 2, "depth": 2, "normals": 0, "detection": 0}


def test_every_set_of_a_mixture_has_its_share_of_the_pictures(model: MultiTaskModel) -> None:
    mixture = MixtureDataset(
        {"a": RoomsDataset(5, (64, 64)), "b": RoomsDataset(4, (64, 64), seed=1)}
    )
    collector = PictureCollector(model.tasks, 3, mixture)
    evaluate(model, batches(2, mixture), CPU, on_batch=collector)
    expected = [mixture[index].image for index in (0, 1, 5)]
    assert all(
        np.array_equal(row[0], image) for row, image in zip(collector.rows, expected, strict=True)
    )


def test_pictures_have_truth_and_prediction_of_every_task(model: MultiTaskModel) -> None:
    collector = PictureCollector(model.tasks, 3)
    evaluate(
        model,
        batches(2, RoomsDataset(5, (64, 64), drop_labels={"depth": 0.5})),
        CPU,
        on_batch=collector,
    )
    assert [len(row) for row in collector.rows] == [9, 9, 9]
    sheet = collector.sheet()
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] >= 3 * 64
    assert sheet.shape[1] >= 9 * 64
