from __future__ import annotations

import math
import pickle
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest

from visionmtl.data.mixture import MixtureDataset, MixtureTransform
from visionmtl.data.transforms.joint import build_transform
from visionmtl.tasks import TaskSpec
from visionmtl.types import BoxTarget, DenseTarget, MultiTaskDataset, Sample

SEMSEG_A, SEMSEG_B = TaskSpec.semseg(["road", "car"]), TaskSpec.semseg(["car", "tree", "road"])
BOXES_A, BOXES_B = TaskSpec.detection(["cup"]), TaskSpec.detection(["chair", "cup"])


class Grey:
    """Images of one grey level; every task is annotated: class 0 everywhere, one box of the last
    class, and so on.
    """

    def __init__(self, length: int, *tasks: TaskSpec, level: int = 0) -> None:
        self.tasks, self.length, self.level = list(tasks), length, level

    def __len__(self) -> int:
        return self.length

    def sample_id(self, index: int) -> str:
        return f"train/{index}"

    def __getitem__(self, index: int) -> Sample:
        valid = np.ones((2, 2), bool)
        targets: dict[str, Any] = {}
        for spec in self.tasks:
            if spec.kind.has_boxes:
                label = np.array([spec.num_classes - 1])
                targets[spec.name] = BoxTarget(np.array([[0, 0, 1, 1]], np.float32), label)
            else:
                targets[spec.name] = DenseTarget(np.zeros((2, 2), spec.kind.dtype), valid)
        return Sample(np.full((2, 2, 3), self.level, np.uint8), targets, self.sample_id(index))


def mixture(*sizes: int, temperature: float = 1.0) -> MixtureDataset:
    return MixtureDataset(
        {f"set{i}": Grey(size, TaskSpec.depth()) for i, size in enumerate(sizes)},
        temperature=temperature,
    )


def drawn_sets(data: MixtureDataset, order: np.ndarray) -> Counter[int]:
    return Counter(data.locate(int(i))[0] for i in order)


# How much of which set


@pytest.mark.parametrize(
    ("temperature", "quotas"),
    [
        (1.0, [1, 10, 1000]),
        (2.0, [28, 89, 894]),  # 1, 3.162, 31.62 of 35.79: 28.25, 89.34, 893.41
        (math.inf, [337, 337, 337]),
    ],
)
def test_quotas_golden_values(temperature: float, quotas: list[int]) -> None:
    data = mixture(1, 10, 1000, temperature=temperature)
    assert (data.sizes, data.quotas, len(data)) == ([1, 10, 1000], quotas, 1011)
    assert drawn_sets(data, data.draw(0, 0)) == Counter(dict(enumerate(quotas)))


def test_what_cannot_be_shared_evenly_goes_to_the_first() -> None:
    assert mixture(5, 5, 7, temperature=math.inf).quotas == [6, 6, 5]
    assert mixture(1, 1).quotas == [1, 1]
    assert mixture(7, temperature=3).quotas == [7]


@pytest.mark.parametrize("temperature", [1.0, 1.5, 5.0, 100.0, math.inf])
def test_quotas_add_up_and_no_set_is_left_out(temperature: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = [int(n) for n in np.ceil(10 ** rng.uniform(0, 5, rng.integers(1, 7)))]
        data = mixture(*sizes, temperature=temperature)
        assert sum(data.quotas) == sum(sizes)
        weights = np.array(sizes) ** (1 / temperature)
        assert np.abs(data.quotas - weights / weights.sum() * sum(sizes)).max() < 1
        assert data.quotas[int(np.argmin(sizes))] >= min(sizes)
        if temperature == 1:
            assert data.quotas == sizes


def test_shares_in_words() -> None:
    line = "samples of an epoch: 28 (3%) from the 1 of set0, 89 (9%) from the 10 of set1, 894 (88%) from the 1000 of set2"
    assert mixture(1, 10, 1000, temperature=2).shares() == line


# The order of an epoch


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_by_size_every_sample_comes_once_per_epoch(epoch: int) -> None:
    order = mixture(1, 10, 100).draw(3, epoch)
    assert sorted(order.tolist()) == list(range(111))
    assert order.dtype == np.int64
    assert order.tolist() != list(range(111))


@pytest.mark.parametrize("temperature", [1.0, 2.0, math.inf])
def test_no_sample_comes_again_before_all_others_of_its_set(temperature: float) -> None:
    data = mixture(2, 7, 30, temperature=temperature)
    sequence = [
        data.locate(int(i)) for i in chain.from_iterable(data.draw(0, epoch) for epoch in range(40))
    ]
    assert len(sequence) == 40 * 39
    for part, size in enumerate(data.sizes):
        own = [index for name, index in sequence if name == part]
        rounds = [own[first : first + size] for first in range(0, len(own) - size + 1, size)]
        assert len(rounds) > 3
        assert all(sorted(one) == list(range(size)) for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1  # in another order every time


def test_the_draw_depends_on_seed_and_epoch_alone() -> None:
    data, other = mixture(5, 20, temperature=2), mixture(5, 20, temperature=2)
    first = data.draw(1, 4)
    np.random.seed(0)
    other.draw(1, 3)
    assert first.tolist() == other.draw(1, 4).tolist() == data.draw(1, 4).tolist()
    assert first.tolist() != data.draw(1, 5).tolist()
    assert first.tolist() != data.draw(2, 4).tolist()
    assert len({tuple(data.draw(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_sets_are_mixed_evenly_over_an_epoch() -> None:
    data = mixture(500, 1500)
    first_half = drawn_sets(data, data.draw(0, 0)[:1000])
    assert abs(first_half[0] - 250) < 50


# Tasks


def test_shared_heads_unite_the_classes_by_name() -> None:
    near = Grey(2, SEMSEG_A, TaskSpec.depth(10), BOXES_A)
    far = Grey(3, BOXES_B, TaskSpec.depth(80), SEMSEG_B, TaskSpec.normals())
    data = MixtureDataset({"near": near, "far": far})
    assert isinstance(data, MultiTaskDataset)
    assert data.tasks == [
        TaskSpec.semseg(["road", "car", "tree"]),
        TaskSpec.depth(80),
        TaskSpec.detection(["cup", "chair"]),
        TaskSpec.normals(),
    ]
    a: Any = data[1].targets
    assert list(a) == ["semseg", "depth", "detection"]
    assert a["semseg"].value.tolist() == [[0, 0], [0, 0]]  # road
    assert a["semseg"].known.tolist() == [True, True, False]
    assert (a["detection"].labels.tolist(), a["detection"].known.tolist()) == ([0], [True, False])
    assert a["depth"].known is None
    b: Any = data[2].targets
    assert b["semseg"].value.tolist() == [[1, 1], [1, 1]]  # car
    assert b["semseg"].known is None  # it has all the classes
    assert (b["detection"].labels.tolist(), b["detection"].known) == (
        [0],
        None,
    )  # cup is class 1 in its set
    assert "normals" in b


def test_ranges_and_tolerances_are_the_largest() -> None:
    one = Grey(1, TaskSpec.depth(10), TaskSpec.edge(0.011), TaskSpec.disparity(90))
    other = Grey(1, TaskSpec.disparity(128), TaskSpec.depth(8), TaskSpec.edge(0.0075))
    data = MixtureDataset({"one": one, "other": other})
    assert data.tasks == [TaskSpec.depth(10), TaskSpec.edge(0.011), TaskSpec.disparity(128)]
    assert data.own_tasks() == [
        ("one", TaskSpec.disparity(90)),
        ("other", TaskSpec.depth(8)),
        ("other", TaskSpec.edge(0.0075)),
    ]


def test_heads_per_set() -> None:
    sets = {
        "near": Grey(2, SEMSEG_A, TaskSpec.depth(10)),
        "far": Grey(3, SEMSEG_B, TaskSpec.depth(80)),
    }
    data = MixtureDataset(sets, "per_set")
    assert data.tasks == [
        TaskSpec.semseg(SEMSEG_A.classes, name="near_semseg"),
        TaskSpec.depth(10, name="near_depth"),
        TaskSpec.semseg(SEMSEG_B.classes, name="far_semseg"),
        TaskSpec.depth(80, name="far_depth"),
    ]
    sample: Any = data[4]
    assert list(sample.targets) == ["far_semseg", "far_depth"]
    assert sample.targets["far_semseg"].value.tolist() == [[0, 0], [0, 0]]
    assert sample.targets["far_semseg"].known is None


def test_kinds_may_differ_with_heads_per_set_only() -> None:
    sets = {"a": Grey(1, TaskSpec.depth()), "b": Grey(1, TaskSpec.disparity(9, name="depth"))}
    message = r"^data\.sets: task 'depth' is disparity in set 'b' and depth in another; choose tasks of each set, or "
    with pytest.raises(ValueError, match=message + r"heads: per_set$"):
        MixtureDataset(sets)
    kinds = [spec.kind.name for spec in MixtureDataset(sets, "per_set").tasks]
    assert kinds == ["depth", "disparity"]


def test_names_that_two_sets_would_share() -> None:
    sets = {"a": Grey(1, TaskSpec.depth(name="b_c")), "a_b": Grey(1, TaskSpec.depth(name="c"))}
    message = r"^data\.sets: two sets would have a task 'a_b_c'; give set 'a_b' another name$"
    with pytest.raises(ValueError, match=message):
        MixtureDataset(sets, "per_set")


def test_selection_and_order_of_tasks() -> None:
    sets = {"a": Grey(1, SEMSEG_A, TaskSpec.depth()), "b": Grey(1, TaskSpec.normals(), SEMSEG_B)}
    data = MixtureDataset(sets, tasks=["depth", "normals"])
    assert [spec.name for spec in data.tasks] == ["depth", "normals"]
    assert [list(data[i].targets) for i in range(2)] == [["depth"], ["normals"]]
    per_set = MixtureDataset(sets, "per_set", tasks=["b_semseg", "a_depth"])
    assert [spec.name for spec in per_set.tasks] == ["b_semseg", "a_depth"]
    with pytest.raises(
        ValueError,
        match=r"^tasks: unknown tasks \['edge'\]; the mixture has semseg, depth, normals$",
    ):
        MixtureDataset(sets, tasks=["depth", "edge"])
    with pytest.raises(ValueError, match=r"^tasks: set 'b' has none of depth; leave it out$"):
        MixtureDataset(sets, tasks=["depth"])


def test_more_classes_than_ids() -> None:
    sets = {name: Grey(1, TaskSpec.semseg([f"{name}{i}" for i in range(200)])) for name in "ab"}
    with pytest.raises(
        ValueError, match=r"^task 'semseg': at most 256 classes, ids are 8-bit; got 400$"
    ):
        MixtureDataset(sets)


@pytest.mark.parametrize("temperature", [0.99, 0.0, -1.0, math.nan])
def test_temperature_below_one(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"^data\.temperature: must be at least 1, got "):
        mixture(1, 2, temperature=temperature)


def test_no_sets() -> None:
    with pytest.raises(ValueError, match=r"^data\.sets: a mixture needs at least one set$"):
        MixtureDataset({})


# Samples


def test_ids_and_places() -> None:
    data = mixture(2, 1, 3)
    assert [data.sample_id(i) for i in range(6)] == [
        *(
            "set0/train/0",
            "set0/train/1",
            "set1/train/0",
            "set2/train/0",
            "set2/train/1",
            "set2/train/2",
        )
    ]
    assert [data[i].sample_id for i in range(6)] == [data.sample_id(i) for i in range(6)]
    assert [data.locate(i) for i in (0, 1, 2, 3, 5)] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 2)]
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f"sample {index} of a mixture of 6"):
            data[index]


def test_a_pickled_mixture_gives_the_same() -> None:
    data = mixture(2, 9, temperature=2)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.draw(0, 1).tolist() == data.draw(0, 1).tolist()
    assert copy[5].sample_id == data[5].sample_id


def test_every_set_has_its_own_transform() -> None:
    data = MixtureDataset({"a": Grey(1, TaskSpec.depth()), "a_b": Grey(1, TaskSpec.depth())})
    sizes = {"a": [4, 6], "a_b": [3, 5]}
    transform = MixtureTransform(
        {
            name: build_transform(data.tasks, [{"type": "resize", "size": size}])
            for name, size in sizes.items()
        }
    )
    assert [transform(data[i], 0).image.shape[:2] for i in range(2)] == [(4, 6), (3, 5)]
