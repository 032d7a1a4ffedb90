"""One way for all kinds: every registered one, and one that is defined here, from a folder through
transforms, batch, cache, conversion, loss and metric to the files of a prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from visionmtl.analysis.check import check_dataset
from visionmtl.data.batch import collate
from visionmtl.data.cache import CachedDataset
from visionmtl.data.convert import convert
from visionmtl.data.description import NAME, StoredTask, write_description
from visionmtl.data.folder import FolderDataset
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.transforms.joint import build_transform
from visionmtl.data.writer import SplitWriter
from visionmtl.losses.base import LOSSES, TaskLoss
from visionmtl.losses.criterion import build_loss
from visionmtl.losses.reduction import masked_mean
from visionmtl.metrics.base import TaskMetric
from visionmtl.models.heads.base import HEADS, DenseHead
from visionmtl.models.heads.decode import decode
from visionmtl.prediction.result import Result
from visionmtl.tasks import KINDS, DenseKind, TaskSpec
from visionmtl.types import (
    BoxTarget,
    DenseTarget,
    DenseTargets,
    DetectionOutput,
    Pyramid,
    Sample,
)

SIZE = (48, 64)
GIVEN: dict[str, Any] = {"classes": ["wall", "floor", "chair"], "max_disparity": 64.0}
"""Fields of kinds whose default does not do."""
NAMES = [*KINDS, "albedo"]


# A kind of a user's own


class AlbedoHead(DenseHead):
    kinds: ClassVar[tuple[str, ...]] = ("albedo",)

    def __init__(self, in_channels: int, strides: list[int]) -> None:
        super().__init__(in_channels, strides, 1)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        return self.logits(pyramid, size)


class AlbedoLoss(TaskLoss):
    kinds: ClassVar[tuple[str, ...]] = ("albedo",)

    def forward(
        self, prediction: Tensor, targets: DenseTargets, counts: Tensor | None = None
    ) -> Tensor:
        error = (prediction - targets.value).abs()
        return masked_mean(error, targets.valid.unsqueeze(1), counts)


class AlbedoMetric(TaskMetric):
    headline = score_key = "close"
    higher_is_better_by_key: ClassVar[dict[str, bool]] = {"close": True}
    delta_m_keys = ("close",)
    close: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("close", torch.zeros(()), "sum")
        self.add_state("total", torch.zeros(()), "sum")

    def update(self, prediction: Tensor, targets: DenseTargets) -> None:
        error = (prediction - targets.value).abs().squeeze(1)[targets.valid]
        self.close += (error < 0.1).sum()
        self.total += error.numel()

    def compute(self) -> dict[str, float]:
        return {"close": float(100 * self.close / self.total)}


@dataclass(frozen=True)
class Albedo(DenseKind):
    """The share of light that a surface throws back."""

    head: ClassVar[str] = "albedo"
    loss: ClassVar[str] = "albedo_l1"
    metric = AlbedoMetric


@pytest.fixture(autouse=True)
def albedo() -> Iterator[None]:
    KINDS.register("albedo")(Albedo)
    HEADS.register("albedo")(AlbedoHead)
    LOSSES.register("albedo_l1")(AlbedoLoss)
    yield
    KINDS.unregister("albedo")
    HEADS.unregister("albedo")
    LOSSES.unregister("albedo_l1")


def spec_of(name: str) -> TaskSpec:
    kind: Any = KINDS[name]
    own = {field.name for field in fields(kind)}
    return TaskSpec(name, kind(**{field: GIVEN[field] for field in GIVEN if field in own}))


# Its truth


def boxes() -> BoxTarget:
    corners = np.float32([[4, 6, 30.5, 40.25], [28, 2, 60, 30]])
    return BoxTarget(corners, np.array([1, 0]))


def unit_vectors(rng: np.random.Generator) -> np.ndarray:
    vectors = rng.normal(size=(*SIZE, 3)) - [0, 0, 2]
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def truth_of(spec: TaskSpec, rng: np.random.Generator) -> Any:
    """Every fourth row is invalid."""
    kind = spec.kind
    if kind.has_boxes:
        return boxes()
    if spec.name == "normals":
        value = unit_vectors(rng)
    elif np.issubdtype(kind.dtype, np.integer):
        value = rng.integers(0, max(spec.num_classes, 2), SIZE)
    elif kind.max_value is not None:
        value = rng.uniform(0.05, 0.95, SIZE) * kind.max_value
    else:
        value = rng.normal(0.5, 0.3, (*SIZE, *kind.shape))
    value = value.astype(kind.dtype)
    valid = np.ones(SIZE, bool)
    valid[::4] = False
    value[~valid] = 0
    return DenseTarget(value, valid)


def step_of(spec: TaskSpec) -> float:
    """Twice the largest error that the files of a kind may make; of normals that of a vector."""
    if spec.name == "normals":
        return 3**0.5 / 127
    scale: float = getattr(spec.kind.codec.for_labels(spec.kind), "scale", 0.0)
    return scale


def assert_close(found: Any, expected: Any, step: float = 0.0) -> None:
    """Equal but for half a step."""
    assert type(found) is type(expected)
    if isinstance(expected, BoxTarget):
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.labels, expected.labels)
        return
    assert found.value.dtype == expected.value.dtype
    np.testing.assert_array_equal(found.valid, expected.valid)
    np.testing.assert_allclose(found.value, expected.value, rtol=0, atol=0.51 * step)


@pytest.fixture(params=NAMES)
def spec(request: pytest.FixtureRequest, albedo: None) -> TaskSpec:
    return spec_of(request.param)


@pytest.fixture
def truths(spec: TaskSpec) -> list[Any]:
    rng = np.random.default_rng(0)
    return [truth_of(spec, rng), truth_of(spec, rng), None]


@pytest.fixture
def folder(spec: TaskSpec, truths: list[Any], tmp_path: Path) -> FolderDataset:
    """Two annotated samples and one that is not."""
    task = StoredTask(spec, spec.kind.codec.for_labels(spec.kind))
    writer = SplitWriter(tmp_path / "set/train", [task])
    rng = np.random.default_rng(1)
    for i, truth in enumerate(truths):
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        targets = {} if truth is None else {spec.name: truth}
        writer.add(Sample(image, targets, str(i)), str(i))
    writer.close()
    write_description(tmp_path / "set" / NAME, "made", [task])
    return FolderDataset(tmp_path / "set", "train")


def test_a_folder_gives_what_was_written(
    spec: TaskSpec, truths: list[Any], folder: FolderDataset
) -> None:
    assert folder.tasks == [spec]
    for i, truth in enumerate(truths[:2]):
        assert_close(folder[i].targets[spec.name], truth, step_of(spec))
    assert folder[2].targets == {}
    report = check_dataset(folder, progress=False)
    assert report.ok, report.problems
    assert report.tasks[0].annotated == 2
    assert ".." in report.tasks[0].contents() or "%" in report.tasks[0].contents() or spec.classes


def test_a_cache_keeps_values_and_validity(folder: FolderDataset, tmp_path: Path) -> None:
    cached = CachedDataset(folder, tmp_path / "cache")
    for i in range(3):
        assert cached[i].targets.keys() == folder[i].targets.keys()
        for name, target in folder[i].targets.items():
            assert_close(cached[i].targets[name], target, 1e-4 if name == "normals" else 0.0)


def test_a_conversion_keeps_the_labels(
    spec: TaskSpec, folder: FolderDataset, tmp_path: Path
) -> None:
    assert convert({"train": folder}, tmp_path / "copy", "copy") == []
    copy = FolderDataset(tmp_path / "copy", "train")
    assert copy.tasks == folder.tasks
    for i in range(3):
        assert copy[i].targets.keys() == folder[i].targets.keys()
        for name, target in folder[i].targets.items():
            assert_close(copy[i].targets[name], target, step_of(spec))


def test_a_mixture_of_two_sets_has_the_task(spec: TaskSpec, folder: FolderDataset) -> None:
    mixture = MixtureDataset({"a": folder, "b": folder})
    assert mixture.tasks == [spec]
    assert_close(mixture[4].targets[spec.name], folder[1].targets[spec.name])


@pytest.mark.parametrize("zoom", ["focal", "fixed_intrinsics"])
@pytest.mark.parametrize(
    "step",
    [
        {"type": "horizontal_flip", "p": 1.0},
        {"type": "random_scale_crop", "size": [40, 56], "scale": [1.5, 1.5]},
        {"type": "rotate", "limit": 20, "p": 1.0},
    ],
    ids=lambda step: step["type"],
)
def test_transforms_keep_the_contract(
    spec: TaskSpec, folder: FolderDataset, step: dict[str, Any], zoom: Any
) -> None:
    sample = build_transform([spec], [step], zoom)(folder[0], 3)
    target: Any = sample.targets[spec.name]
    fault = spec.kind.report(spec).fault(target, sample.image.shape[:2])
    assert fault == ""
    before: Any = folder[0].targets[spec.name]
    if isinstance(target, DenseTarget):
        assert target.value.dtype == before.value.dtype
        assert target.valid.sum() > 0
        if zoom == "focal" and spec.name in ("semseg", "depth", "albedo"):  # nearest neighbour
            assert np.isin(target.value, before.value).all()
    else:
        assert len(target.boxes)


def prediction_of(spec: TaskSpec, samples: list[Sample]) -> Any:
    """What the default head of the task gives for a pyramid of noise, with its loss."""
    torch.manual_seed(0)
    height, width = samples[0].image.shape[:2]
    strides = [4, 8, 16, 32]
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    pyramid = [torch.randn(len(samples), 16, *size, requires_grad=True) for size in sizes]
    given = {"in_channels": 16, "strides": strides, **spec.kind.facts()}
    return HEADS.make(spec.kind.head, given, {})(pyramid, (height, width)), pyramid


def test_loss_metric_and_files_of_a_prediction(
    spec: TaskSpec, folder: FolderDataset, tmp_path: Path
) -> None:
    transform = build_transform([spec], [{"type": "resize", "size": [64, 64]}])
    samples = [transform(folder[i], i) for i in range(3)]
    batch = collate(samples, [spec])
    targets = batch.targets[spec.name]
    assert batch.annotated == {spec.name: 2}
    assert_close(batch.sample_target(spec, 1), samples[1].targets[spec.name])
    assert batch.sample_target(spec, 2) is None

    output, pyramid = prediction_of(spec, samples)
    loss = build_loss(spec)
    value = loss(output, loss.prepare(targets, (64, 64)))
    value.backward()
    assert torch.isfinite(value)
    assert value > 0
    for level in pyramid:
        if level.grad is not None:
            assert torch.isfinite(level.grad).all()
    assert any(level.grad is not None and level.grad.any() for level in pyramid)

    finished = finish(spec, output)
    metric = spec.kind.make_metric()
    metric.update(finished, targets)
    found = metric.compute()
    assert set(spec.kind.metric.higher_is_better_by_key) <= set(found)

    image = samples[0].image
    truth = spec.kind.draw(samples[0].targets[spec.name], image)
    result = spec.kind.result_of(finished[0])
    for picture in (truth, result.draw(image), result.draw(image, spec.kind.max_value)):
        assert (picture.dtype, picture.shape) == (np.uint8, image.shape)
    assert truth.any()
    assert result.scaled(0.5).draw(image[::2, ::2]).shape == (32, 32, 3)
    Result(image, {spec.name: result}, "a.png").save(tmp_path, "a")
    assert (tmp_path / "a_panel.jpg").is_file()
    assert (tmp_path / f"a_{spec.name}{spec.kind.codec.suffixes[0]}").is_file()


def finish(spec: TaskSpec, output: Any) -> Any:
    """As ``visionmtl.prediction.infer.infer`` does it."""
    if isinstance(output, DetectionOutput):
        with torch.no_grad():
            return decode(output, 0.05)
    finished = spec.kind.finish(output.detach(), False)
    return finished[:, 0] if finished.dtype == torch.uint8 else finished


def test_a_float_kind_is_not_rounded(tmp_path: Path) -> None:
    """Its shares of one became the bytes 0, all of them valid."""
    spec = TaskSpec.albedo()
    value = np.float32([[0.85, 0.64], [0.51, 0.27]])
    valid = np.array([[True, True], [True, False]])
    target = DenseTarget(np.where(valid, value, np.float32(0)), valid)
    task = StoredTask(spec, spec.kind.codec.for_labels(spec.kind))
    writer = SplitWriter(tmp_path / "set/train", [task])
    writer.add(Sample(np.zeros((2, 2, 3), np.uint8), {"albedo": target}, "a"), "a")
    writer.close()
    write_description(tmp_path / "set" / NAME, "made", [task])
    stored = np.asarray(Image.open(tmp_path / "set/train/albedo/a.tiff"))
    np.testing.assert_array_equal(stored, np.where(valid, value, np.float32(np.nan)))
    folder = FolderDataset(tmp_path / "set", "train")
    for dataset in (folder, CachedDataset(folder, tmp_path / "cache")):
        found = dataset[0].targets["albedo"]
        assert isinstance(found, DenseTarget)
        assert found.value.dtype == np.float32
        assert found.value.tolist() == target.value.tolist()
        assert found.valid.tolist() == valid.tolist()
    result = spec.kind.result_of(torch.from_numpy(value)[None])
    result.save(tmp_path, "p", np.zeros((2, 2, 3), np.uint8))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "p.tiff")), value)


def test_unknown_keys_of_a_user_s_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(
        "name: x\ntasks: [{name: albedo, kind: albedo, scale: 2}]"
    )
    message = r"dataset\.yaml: tasks\.0\.scale: unknown key; known: name, kind$"
    with pytest.raises(ValueError, match=message):
        FolderDataset(tmp_path, "train")


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_values_that_float32_cannot_hold_need_a_codec(dtype: Any) -> None:
    kind = type("Wide", (Albedo,), {"dtype": dtype})
    KINDS.register("wide")(kind)
    try:
        with pytest.raises(ValueError, match=rf"^wide: float32 cannot hold {np.dtype(dtype)}, "):
            kind.codec.for_labels(kind())
    finally:
        KINDS.unregister("wide")


def test_several_channels_of_a_user_s_kind(tmp_path: Path) -> None:
    """Two numbers per pixel lie in the file as planes."""
    kind = type("Flow", (Albedo,), {"channels": (2,)})
    KINDS.register("flow")(kind)
    try:
        spec = TaskSpec("flow", kind())
        value = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
        target = DenseTarget(value, np.ones((3, 5), bool))
        codec = kind.codec.for_labels(spec.kind)
        codec.write(tmp_path / "a.tiff", target)
        with Image.open(tmp_path / "a.tiff") as stored:
            assert stored.size == (5, 6)
        assert_close(codec.read(tmp_path / "a.tiff"), target)
        assert_close(codec.unpack(codec.pack(target).ravel(), (3, 5)), target)
        sample = Sample(np.zeros((3, 5, 3), np.uint8), {"flow": target}, "a")
        batch = collate([sample], [spec])
        assert batch.targets["flow"].value.shape == (1, 2, 3, 5)
        assert_close(batch.sample_target(spec, 0), target)
        assert spec.kind.draw(target, sample.image).shape == (3, 5, 3)
        assert spec.kind.result_of(torch.from_numpy(value).permute(2, 0, 1)).value.shape == (
            *(3, 5),
            2,
        )
    finally:
        KINDS.unregister("flow")
