from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visionmtl.data.matched import MatchedDataset, match_model
from visionmtl.tasks import TaskSpec
from visionmtl.types import (
    BoxTarget,
    Camera,
    DenseTarget,
    MultiTaskDataset,
    Sample,
    Target,
)

IDS = np.array([[0, 1, 2, 0]], np.uint8)
VALID = np.array([[True, True, True, False]])


class One:
    """A data set of one sample."""

    def __init__(self, **targets: tuple[TaskSpec, Target]) -> None:
        self.tasks = [spec for spec, _ in targets.values()]
        self.targets = {spec.name: target for spec, target in targets.values()}

    def __len__(self) -> int:
        return 1

    def sample_id(self, index: int) -> str:
        return "a"

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((1, 4, 3), np.uint8), self.targets, "a", Camera(1, 1, 0, 0, 4, 1))


def semseg(*classes: str, name: str = "semseg", known: np.ndarray | None = None) -> One:
    return One(it=(TaskSpec.semseg(classes, name=name), DenseTarget(IDS, VALID, known)))


def boxes(*classes: str, known: np.ndarray | None = None) -> One:
    target = BoxTarget(np.arange(8, dtype=np.float32).reshape(2, 4), np.array([1, 0]), known)
    return One(it=(TaskSpec.detection(classes), target))


def mapped(dataset: One, wanted: TaskSpec) -> Any:
    matched = MatchedDataset(dataset, [(dataset.tasks[0], wanted)])
    assert isinstance(matched, MultiTaskDataset)
    assert (len(matched), matched.sample_id(0), matched.tasks) == (1, "a", [wanted])
    return matched[0].targets[wanted.name]


def test_classes_get_the_ids_of_the_wanted_task() -> None:
    target = mapped(semseg("a", "b", "c"), TaskSpec.semseg(["c", "a", "b"]))
    assert target.value.tolist() == [
        [1, 2, 0, 0]
    ]  # the invalid pixel holds 0, not the new id of "a"
    assert target.value.dtype == np.uint8
    assert target.valid is VALID
    assert target.known is None


def test_classes_that_the_data_lack_are_not_known() -> None:
    target = mapped(semseg("a", "b", "c"), TaskSpec.semseg(["x", "c", "b", "y", "a"]))
    assert target.value.tolist() == [[4, 2, 1, 0]]
    assert target.known.tolist() == [False, True, True, False, True]


def test_boxes() -> None:
    target = mapped(boxes("cup", "chair"), TaskSpec.detection(["chair", "sofa", "cup"]))
    assert target.labels.tolist() == [0, 2]
    assert target.labels.dtype == np.int64
    assert target.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert target.known.tolist() == [True, False, True]
    empty = One(
        it=(
            TaskSpec.detection(["cup"]),
            BoxTarget(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)),
        )
    )
    target = mapped(empty, TaskSpec.detection(["chair", "cup"]))
    assert (target.boxes.shape, target.labels.shape, target.known.tolist()) == (
        (0, 4),
        (0,),
        [False, True],
    )


def test_an_annotation_that_knows_some_classes_already() -> None:
    known = np.array([True, False, True])
    target = mapped(semseg("a", "b", "c", known=known), TaskSpec.semseg(["c", "x", "b", "a"]))
    assert target.known.tolist() == [True, False, False, True]
    target = mapped(boxes("a", "b", "c", known=known), TaskSpec.detection(["c", "b", "a"]))
    assert target.known.tolist() == [True, False, True]
    assert (
        mapped(semseg("a", "b", "c", known=known), TaskSpec.semseg(["a", "b", "c"])).known is known
    )


def test_every_one_of_256_classes_has_an_id() -> None:
    names = [f"c{i}" for i in range(256)]
    value = np.arange(256, dtype=np.uint8)[None]
    dataset = One(it=(TaskSpec.semseg(names), DenseTarget(value, np.ones((1, 256), bool))))
    target = mapped(dataset, TaskSpec.semseg(names[::-1]))
    assert target.value.tolist() == [list(range(255, -1, -1))]


def test_equal_classes_and_other_kinds_pass_as_they_are() -> None:
    dataset = semseg("a", "b", "c")
    assert (
        mapped(dataset, TaskSpec.semseg(["a", "b", "c"], name="parts")) is dataset.targets["semseg"]
    )
    depth = One(it=(TaskSpec.depth(5), DenseTarget(IDS.astype(np.float32), VALID)))
    assert mapped(depth, TaskSpec.depth(80, name="far")) is depth.targets["depth"]


def test_names_order_and_what_is_not_annotated() -> None:
    dataset = One(
        a=(TaskSpec.depth(), DenseTarget(IDS.astype(np.float32), VALID)),
        b=(TaskSpec.semseg(["a", "b", "c"]), DenseTarget(IDS, VALID)),
    )
    depth, labels = dataset.tasks
    matched = MatchedDataset(
        dataset, [(labels, TaskSpec.semseg(labels.classes, name="in_semseg")), (depth, depth)]
    )
    sample = matched[0]
    assert list(sample.targets) == ["in_semseg", "depth"]
    assert (sample.sample_id, sample.camera) == ("a", Camera(1, 1, 0, 0, 4, 1))
    del dataset.targets["semseg"]
    assert list(matched[0].targets) == ["depth"]


def test_what_does_not_match_is_listed() -> None:
    with pytest.raises(ValueError, match=r"^task 'semseg': depth is wanted, the data has semseg$"):
        mapped(semseg("a"), TaskSpec.depth(name="semseg"))
    message = r"^task 'semseg': the classes differ; wanted are \[a, c\], the data has \[a, b\]$"
    with pytest.raises(ValueError, match=message):
        mapped(semseg("a", "b"), TaskSpec.semseg(["a", "c"]))


MODEL = [
    TaskSpec.semseg(["a", "b", "c", "d"]),
    TaskSpec.depth(10),
    TaskSpec.disparity(64),
    TaskSpec.normals(),
]


def test_a_data_set_with_fewer_classes_can_be_evaluated() -> None:
    matched = match_model(semseg("c", "b", "a"), MODEL)
    assert matched.tasks == MODEL[:1]
    target: Any = matched[0].targets["semseg"]
    assert target.value.tolist() == [[2, 1, 0, 0]]
    assert target.known.tolist() == [True, True, True, False]


def test_depth_and_disparity_keep_the_range_of_the_data() -> None:
    far = One(
        a=(TaskSpec.disparity(200), DenseTarget(IDS.astype(np.float32), VALID)),
        b=(TaskSpec.depth(80), DenseTarget(IDS.astype(np.float32), VALID)),
    )
    assert match_model(far, MODEL).tasks == [
        TaskSpec.depth(80),
        TaskSpec.disparity(200),
    ]  # the model's order


def test_edges_keep_the_tolerance_of_the_data() -> None:
    data = One(it=(TaskSpec.edge(0.011), DenseTarget(np.zeros((1, 4), np.uint8), VALID)))
    assert match_model(data, [TaskSpec.edge(0.0075)]).tasks == [TaskSpec.edge(0.011)]


def test_tasks_to_evaluate() -> None:
    dataset = One(
        a=(TaskSpec.normals(), DenseTarget(np.zeros((1, 4, 3), np.float32), VALID)),
        b=(TaskSpec.depth(80), DenseTarget(IDS.astype(np.float32), VALID)),
        c=(TaskSpec.edge(), DenseTarget(IDS, VALID)),
    )
    assert [spec.name for spec in match_model(dataset, MODEL).tasks] == ["depth", "normals"]
    assert [spec.name for spec in match_model(dataset, MODEL, ["normals"]).tasks] == ["normals"]
    listed = r"the model has \['semseg', 'depth', 'disparity', 'normals'\], the data \['normals', 'depth', 'edge'\]"
    for name in ("edge", "semseg", "nothing"):
        with pytest.raises(
            ValueError, match=rf"^--tasks: \['{name}'\] cannot be evaluated; {listed}$"
        ):
            match_model(dataset, MODEL, ["depth", name])
    with pytest.raises(
        ValueError,
        match=r"^model and data have no task in common; the model has \['edge'\], the data",
    ):
        match_model(semseg("a"), [TaskSpec.edge()])


def test_another_kind_under_the_same_name() -> None:
    with pytest.raises(
        ValueError, match=r"^task 'depth': depth is wanted, the data has disparity$"
    ):
        match_model(One(a=(TaskSpec.disparity(9, name="depth"), DenseTarget(IDS, VALID))), MODEL)
    message = r"the classes differ; wanted are \[a, b, c, d\], the data has \[a, z\]$"
    with pytest.raises(ValueError, match=message):
        match_model(semseg("a", "z"), MODEL)
