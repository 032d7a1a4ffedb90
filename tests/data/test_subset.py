from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from visionmtl.data.subset import cut_split, keep_labels, parse_split
from visionmtl.types import DenseTarget, MultiTaskDataset, Sample, TaskSpec


class Numbered:
    """Image ``index`` is one pixel of that grey level, with a target for every task."""

    def __init__(self, length: int, tasks: Sequence[str] = ("depth", "normals")) -> None:
        self.tasks = [TaskSpec.depth(name=name) for name in tasks]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample_id(self, index: int) -> str:
        return f"{index:03d}"

    def __getitem__(self, index: int) -> Sample:
        value = np.full((1, 1), index, np.float32)
        targets = {spec.name: DenseTarget(value, value > -1) for spec in self.tasks}
        return Sample(np.full((1, 1, 3), index, np.uint8), dict(targets), self.sample_id(index))


def ids(dataset: MultiTaskDataset) -> list[str]:
    return [dataset.sample_id(i) for i in range(len(dataset))]


def labelled(dataset: MultiTaskDataset, task: str) -> set[str]:
    return {sample.sample_id for i in range(len(dataset)) if task in (sample := dataset[i]).targets}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train", ("train", None, None)),
        ("train[:]", ("train", None, None)),
        ("train[:80%]", ("train", None, "80%")),
        ("a b/c-1[80%:]", ("a b/c-1", "80%", None)),
        ("train[10:200]", ("train", "10", "200")),
        ("train[10:50%]", ("train", "10", "50%")),
    ],
)
def test_forms_of_a_split(text: str, parts: tuple[str, str | None, str | None]) -> None:
    assert parse_split(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[:3]",
        "train[",
        "train[]",
        "train[5]",
        "train[-1:]",
        "train[:1.5%]",
        "train[:3]x",
        "train[:3][:2]",
        "a]",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^must be a split such as train, train\[:80%\] or train\[10:200\]$"
    ):
        parse_split(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train[:80%]", range(8)),
        ("train[80%:]", range(8, 10)),
        ("train[25%:75%]", range(2, 8)),  # 2.5 and 7.5, rounded to even
        ("train[3:5]", range(3, 5)),
        ("train[9:]", range(9, 10)),
        ("train[4:400]", range(4, 10)),
        ("train[:300%]", range(10)),
    ],
)
def test_a_part_is_one_piece_of_the_split(text: str, expected: range) -> None:
    part = cut_split(Numbered(10), text)
    assert isinstance(part, MultiTaskDataset)
    assert ids(part) == [f"{i:03d}" for i in expected]
    assert [int(part[i].image[0, 0, 0]) for i in range(len(part))] == list(expected)
    assert part.tasks == Numbered(10).tasks


@pytest.mark.parametrize("length", [*range(2, 12), 29, 100, 101])
@pytest.mark.parametrize("bound", ["10%", "33%", "50%", "80%", "99%", "2"])
def test_two_parts_with_one_bound_are_the_whole(length: int, bound: str) -> None:
    found = []
    for text in (f"train[:{bound}]", f"train[{bound}:]"):
        with contextlib.suppress(ValueError):  # one of them may be empty
            found += ids(cut_split(Numbered(length), text))
    assert found == ids(Numbered(length))


def test_the_whole_split_is_left_as_it_is() -> None:
    whole = Numbered(3)
    assert cut_split(whole, "train") is whole
    assert cut_split(whole, "train[:]") is whole


@pytest.mark.parametrize(
    "text", ["train[:0]", "train[5:5]", "train[6:2]", "train[10:]", "train[:4%]", "train[99%:]"]
)
def test_an_empty_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^split 'train\[.*\]': no sample of 10 lies in it$"):
        cut_split(Numbered(10), text)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.3, 0.5, 0.7, 0.999, 1.0])
@pytest.mark.parametrize("length", [1, 10, 30, 97])
def test_the_share_is_exact(share: float, length: int) -> None:
    kept = labelled(keep_labels(Numbered(length), {"depth": share}, seed=0), "depth")
    assert len(kept) == math.ceil(round(share * length, 6))


def test_a_share_keeps_the_labels_of_a_smaller_one() -> None:
    found = [
        labelled(keep_labels(Numbered(40), {"depth": share}, 3), "depth")
        for share in (0.1, 0.25, 0.5, 1.0)
    ]
    assert [len(kept) for kept in found] == [4, 10, 20, 40]
    assert all(less < more for less, more in pairwise(found))


def test_the_choice_depends_on_seed_task_and_length_alone() -> None:
    shares = {"depth": 0.5, "normals": 0.5}
    both = keep_labels(Numbered(40), shares, seed=7)
    chosen = {task: labelled(both, task) for task in shares}
    assert chosen["depth"] != chosen["normals"]
    for task in shares:  # the data of a single-task run
        alone = keep_labels(Numbered(40, [task]), {task: 0.5}, seed=7)
        assert labelled(alone, task) == chosen[task]
        assert (
            labelled(keep_labels(Numbered(40, [task]), {task: 0.5}, seed=8), task) != chosen[task]
        )


def test_samples_that_lose_every_label_are_left_out() -> None:
    both = keep_labels(Numbered(40), {"depth": 0.5, "normals": 0.25}, seed=0)
    assert set(ids(both)) == labelled(both, "depth") | labelled(both, "normals")
    assert 20 <= len(both) < 30
    assert ids(both) == sorted(ids(both))
    assert all(int(both[i].image[0, 0, 0]) == int(both.sample_id(i)) for i in range(len(both)))
    one = keep_labels(Numbered(40), {"depth": 0.25}, seed=0)
    assert len(one) == len(labelled(one, "normals")) == 40


def test_labels_of_tasks_that_are_not_trained_keep_no_sample() -> None:
    part = keep_labels(Numbered(40), {"depth": 0.25}, seed=0, used=["depth", "of another set"])
    assert set(ids(part)) == labelled(part, "depth")
    assert len(part) == 10
    assert len(keep_labels(Numbered(40), {"depth": 0.25}, seed=0, used=["normals"])) == 40
    assert len(keep_labels(Numbered(40), {"depth": 0.25}, seed=0, used=[])) == 40
    with pytest.raises(ValueError, match=r"^labels: no label is left of depth$"):
        keep_labels(Numbered(8), {"depth": 0}, seed=0, used=["depth"])


def test_no_label_of_a_task() -> None:
    part = keep_labels(Numbered(8), {"depth": 0}, seed=0)
    assert (labelled(part, "depth"), len(labelled(part, "normals"))) == (set(), 8)
    half = keep_labels(Numbered(8), {"depth": 0, "normals": 0.5}, seed=0)
    assert (labelled(half, "depth"), len(half)) == (set(), 4)
    with pytest.raises(ValueError, match=r"^labels: no label is left of depth, normals$"):
        keep_labels(Numbered(8), {"depth": 0, "normals": 0}, seed=0)


def test_no_shares_change_nothing() -> None:
    whole = Numbered(3)
    assert keep_labels(whole, {}, seed=0) is whole
    assert ids(keep_labels(whole, {"depth": 1, "normals": 1}, seed=0)) == ids(whole)


def test_labels_of_a_part() -> None:
    part = keep_labels(
        cut_split(Numbered(40), "train[50%:]"), {"depth": 0.25, "normals": 0}, seed=0
    )
    assert len(part) == 5
    assert min(ids(part)) >= "020"


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"edge": 0.5}, r"^labels: unknown task 'edge'; tasks of this data set: depth, normals$"),
        ({"depth": 1.5}, r"^labels\.depth: must be a fraction in 0\.\.1, got 1\.5$"),
        ({"depth": -0.1}, r"^labels\.depth: must be a fraction in 0\.\.1, got -0\.1$"),
        ({"depth": float("nan")}, r"^labels\.depth: must be a fraction in 0\.\.1, got nan$"),
    ],
)
def test_bad_shares(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keep_labels(Numbered(8), shares, seed=0)
