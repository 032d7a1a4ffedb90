from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visionmtl.data.loader import EpochSampler, close_loader, make_loader
from visionmtl.data.matched import match_model
from visionmtl.data.mixture import MixtureDataset, MixtureTransform
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.transforms.joint import build_transform
from visionmtl.types import Batch, DenseTarget, DenseTargets, Sample, TaskSpec

STEPS: list[dict[str, Any]] = [
    {"type": "horizontal_flip", "p": 0.5},
    {"type": "gaussian_noise", "p": 0.7},
]


class CachedRooms(RoomsDataset):
    """Samples are drawn once."""

    def __init__(self, num_samples: int) -> None:
        super().__init__(num_samples, (32, 32), tasks=["semseg", "detection"])
        self.samples = [super(CachedRooms, self).__getitem__(i) for i in range(num_samples)]

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@pytest.fixture(scope="module")
def rooms() -> CachedRooms:
    return CachedRooms(11)


def load(
    rooms: RoomsDataset,
    epoch: int = 0,
    start: int = 0,
    workers: int = 0,
    seed: int = 0,
    train: bool = True,
) -> list[Batch]:
    transform = build_transform(rooms.tasks, STEPS)
    loader, sampler = make_loader(
        rooms, rooms.tasks, transform, batch_size=2, train=train, seed=seed, workers=workers
    )
    sampler.epoch, sampler.start = epoch, start
    try:
        return list(loader)
    finally:
        close_loader(loader)


def same(a: list[Batch], b: list[Batch]) -> bool:
    def equal(x: Batch, y: Batch) -> bool:
        dense = [t.targets["semseg"] for t in (x, y)]
        assert isinstance(dense[0], DenseTargets)
        assert isinstance(dense[1], DenseTargets)
        return (
            x.sample_ids == y.sample_ids
            and torch.equal(x.images, y.images)
            and torch.equal(dense[0].value, dense[1].value)
            and all(torch.equal(p, q) for p, q in zip(boxes(x), boxes(y), strict=True))
        )

    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))


def boxes(batch: Batch) -> list[torch.Tensor]:
    target = batch.targets["detection"]
    assert not isinstance(target, DenseTargets)
    return target.boxes


def ids(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.sample_ids]


def test_order_and_augmentations_follow_from_seed_and_epoch(rooms: RoomsDataset) -> None:
    first = load(rooms)
    assert same(first, load(rooms))
    assert ids(first) != ids(load(rooms, epoch=1))
    assert ids(first) != ids(load(rooms, seed=1))


def test_epochs_differ_in_augmentation(rooms: RoomsDataset) -> None:
    loader, sampler = make_loader(
        rooms, rooms.tasks, build_transform(rooms.tasks, STEPS), batch_size=1, train=True
    )
    seen = [{} for _ in range(3)]  # type: list[dict[str, torch.Tensor]]
    for epoch, images in enumerate(seen):
        sampler.epoch = epoch
        images.update({batch.sample_ids[0]: batch.images for batch in loader})
    changed = [not torch.equal(seen[0][name], other[name]) for other in seen[1:] for name in other]
    assert len(changed) == 22
    assert sum(changed) > 11  # noise alone changes 1 - 0.3 * 0.3 of them


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(rooms: RoomsDataset, workers: int) -> None:
    assert same(load(rooms, epoch=3), load(rooms, epoch=3, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_start_in_mid_epoch_equals_skipping(rooms: RoomsDataset, workers: int) -> None:
    assert same(load(rooms, epoch=2)[3:], load(rooms, epoch=2, start=3, workers=workers))
    assert load(rooms, start=5) == []


def test_a_loader_can_be_left_in_mid_epoch(rooms: RoomsDataset) -> None:
    transform = build_transform(rooms.tasks, STEPS)
    loader, sampler = make_loader(
        rooms, rooms.tasks, transform, batch_size=2, train=True, workers=2
    )
    next(iter(loader))
    sampler.epoch = 4
    assert same(list(loader), load(rooms, epoch=4))
    close_loader(loader)
    close_loader(loader)
    assert same(list(loader), load(rooms, epoch=4))
    close_loader(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_random_numbers_of_the_model_are_not_touched(rooms: RoomsDataset, workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(rooms, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("samples", "batch_size", "train", "sizes"),
    [
        (5, 2, True, [2, 2]),
        (5, 2, False, [2, 2, 1]),
        (4, 2, True, [2, 2]),
        (1, 2, True, [1]),
        (1, 2, False, [1]),
    ],
)
def test_last_batch(samples: int, batch_size: int, train: bool, sizes: list[int]) -> None:
    sampler = EpochSampler(range(samples), batch_size, seed=0, train=train)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("samples", [3, 13, 24])
def test_processes_see_together_what_one_sees(samples: int, processes: int) -> None:
    parts = [EpochSampler(range(samples), 2, 0, True, rank, processes) for rank in range(processes)]
    whole = EpochSampler(range(samples), 2 * processes, 0, True)
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *of_processes in zip(whole, *parts, strict=True):
        assert [key for part in of_processes for key in part] == batch
        assert all(of_processes)
    shares = [
        list(EpochSampler(range(samples), 2, 0, False, rank, processes))
        for rank in range(processes)
    ]
    assert [len(share) for share in shares] == [
        len(EpochSampler(range(samples), 2, 0, False, rank, processes)) for rank in range(processes)
    ]
    assert sorted(index for share in shares for batch in share for _, index in batch) == list(
        range(samples)
    )


def test_fewer_training_samples_than_processes() -> None:
    with pytest.raises(ValueError, match="1 training samples are too few for 2 processes"):
        EpochSampler(range(1), 2, 0, True, 0, 2)
    assert len(EpochSampler(range(1), 2, 0, False, 1, 2)) == 0


def test_training_sees_other_leftovers_in_every_epoch() -> None:
    sampler = EpochSampler(range(5), 2, seed=0, train=True)
    seen = set()
    for epoch in range(20):
        sampler.epoch = epoch
        drawn = [index for batch in sampler for _, index in batch]
        assert len(set(drawn)) == 4
        seen |= set(drawn)
    assert seen == set(range(5))


def test_validation_is_in_order(rooms: RoomsDataset) -> None:
    assert ids(load(rooms, train=False)) == [rooms.sample_id(i) for i in range(11)]


class Depths:
    """Grey pictures of one size with depth."""

    def __init__(self, length: int, size: tuple[int, int] = (4, 6)) -> None:
        self.tasks, self.length, self.size = [TaskSpec.depth()], length, size

    def __len__(self) -> int:
        return self.length

    def sample_id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Sample:
        depth = DenseTarget(np.ones(self.size, np.float32), np.ones(self.size, bool))
        return Sample(np.full((*self.size, 3), 128, np.uint8), {"depth": depth}, str(index))


def mixture(*sizes: int, temperature: float = 1.0) -> MixtureDataset:
    """Sets a, b, c, whose pictures have different sizes."""
    sets = {
        name: Depths(size, (4, 6 + i))
        for i, (name, size) in enumerate(zip("abc", sizes, strict=False))
    }
    return MixtureDataset(sets, temperature=temperature)


def keys(sampler: EpochSampler) -> list[tuple[int, ...]]:
    return [key for batch in sampler for key in batch]


def test_an_epoch_of_a_mixture_is_what_it_draws() -> None:
    data = mixture(3, 9, temperature=np.inf)
    sampler = EpochSampler(data, 4, seed=5, train=True)
    sampler.epoch = 2
    assert [key[1] for key in keys(sampler)] == data.draw(5, 2).tolist()
    assert {key[0] for key in keys(sampler)} == {2}
    repeats = Counter(key[1] for key in keys(sampler) if key[1] < 3)
    assert repeats == {0: 2, 1: 2, 2: 2}
    assert sorted(key[2:] for key in keys(sampler) if key[1] < 3) == [(), (), (), (1,), (1,), (1,)]
    assert len(set(keys(sampler))) == 12
    rest = [key for key in keys(sampler) if key[1] >= 3]
    assert {key[2:] for key in rest} == {()}


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_see_a_mixture_together(processes: int) -> None:
    data = mixture(1, 5, 18, temperature=2)
    parts = [EpochSampler(data, 2, 0, True, rank, processes) for rank in range(processes)]
    whole = EpochSampler(data, 2 * processes, 0, True)
    assert {len(part) for part in parts} == {len(whole)} == {24 // (2 * processes)}
    for batch, *of_processes in zip(whole, *parts, strict=True):
        assert [key for part in of_processes for key in part] == batch


def test_a_sample_that_comes_again_is_augmented_differently() -> None:
    data = mixture(1, 9, temperature=np.inf)
    transform = build_transform(data.tasks, [{"type": "gaussian_noise", "p": 1.0}])
    resized = MixtureTransform(dict.fromkeys("ab", transform))
    loader, _ = make_loader(data, data.tasks, resized, batch_size=1, train=True)
    images = [batch.images.numpy().tobytes() for batch in loader if batch.sample_ids == ["a/0"]]
    assert len(images) == 5
    assert len(set(images)) == 5
    again = [batch.images.numpy().tobytes() for batch in loader if batch.sample_ids == ["a/0"]]
    assert again == images


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("sizes", [(5, 1, 6), (1, 1), (7,)])
def test_no_batch_of_an_evaluation_has_two_sets(sizes: tuple[int, ...], processes: int) -> None:
    data = mixture(*sizes)
    samplers = [EpochSampler(data, 2, 0, False, rank, processes) for rank in range(processes)]
    batches = [batch for sampler in samplers for batch in sampler]
    assert [len(list(sampler)) for sampler in samplers] == [len(sampler) for sampler in samplers]
    assert sorted(index for batch in batches for _, index in batch) == list(range(len(data)))
    assert {len({data.locate(index)[0] for _, index in batch}) for batch in batches} == {1}
    assert max(map(len, batches)) <= 2
    shares = [sum(map(len, sampler)) for sampler in samplers]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("matched", [False, True], ids=["training", "eval command"])
def test_sets_of_different_picture_sizes_are_evaluated_in_batches(matched: bool) -> None:
    mixed = mixture(3, 2)
    data = match_model(mixed, mixed.tasks) if matched else mixed
    loader, _ = make_loader(
        data, data.tasks, build_transform(data.tasks, []), batch_size=2, train=False
    )
    batches = list(loader)
    assert [batch.sample_ids for batch in batches] == [["a/0", "a/1"], ["a/2"], ["b/0", "b/1"]]
    assert [tuple(batch.images.shape[-2:]) for batch in batches] == [(4, 6), (4, 6), (4, 7)]
    assert len(loader) == 3


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_large_sets_start_at_once(mixed: bool, train: bool) -> None:
    data = mixture(118_000, 800, temperature=2) if mixed else Depths(118_000)
    sampler = EpochSampler(data, 1, 0, train)
    sampler.start = 1000
    start = time.process_time()
    iterator = iter(sampler)
    assert len(next(iterator)) == 1
    assert len(sampler) == len(data)
    assert time.process_time() - start < 0.5
    assert sum(1 for _ in iterator) == len(data) - 1001


class Broken(RoomsDataset):
    def __getitem__(self, index: int) -> Sample:
        raise ValueError(f"train/rgb/{index}.jpg: truncated file")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_keeps_its_path(workers: int) -> None:
    data = Broken(1, (32, 32))
    loader, _ = make_loader(
        data, data.tasks, build_transform(data.tasks, []), batch_size=1, train=True, workers=workers
    )
    with pytest.raises(ValueError, match=r"train/rgb/0.jpg: truncated file"):
        next(iter(loader))
    close_loader(loader)


def test_seeds_of_samples_are_spread() -> None:
    seeds = {
        int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])
        for seed in range(4)
        for epoch in range(4)
        for index in range(50)
    }
    assert len(seeds) == 800


SCRIPT = """
import sys, time, torch
from visionmtl.data.loader import make_loader
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.transforms.joint import build_transform
data = RoomsDataset(64, (32, 32))
loaders = [
    make_loader(data, data.tasks, build_transform(data.tasks, []), batch_size=1, train=True, workers=2)[0]
    for _ in range(2)
]
iterators = [iter(loader) for loader in loaders]
for iterator in iterators:
    next(iterator)
print(*[worker.pid for iterator in iterators for worker in iterator._workers], flush=True)
if sys.argv[1] == "raise":
    raise RuntimeError("in the main process")
time.sleep(60)
"""


def start(*arguments: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that has started workers, and their ids."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def alive(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            yield pid


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while (left := list(alive(pids))) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_processes_end_in_order() -> None:
    raising, workers_a = start("raise")
    waiting, workers_b = start("wait")
    assert len(workers_a) == len(workers_b) == 4
    _, stderr = raising.communicate(timeout=30)  # it must not wait for its workers for ever
    assert raising.returncode == 1
    assert stderr.rstrip().endswith("RuntimeError: in the main process")
    assert wait_until_gone(workers_a, 5) == []

    for worker in workers_b:  # signals that are meant for the main process
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGUSR1)
    time.sleep(0.5)
    assert len(list(alive(workers_b))) == 4
    assert all(os.getpgid(worker) != waiting.pid for worker in workers_b)
    waiting.send_signal(signal.SIGKILL)
    waiting.communicate(timeout=30)
    assert wait_until_gone(workers_b, 20) == []
