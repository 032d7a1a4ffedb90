"""Data loaders whose samples depend on (seed, epoch, index) alone.

They depend neither on the number of workers nor on where a run was resumed.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence, Sized
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from visionmtl.data.batch import collate
from visionmtl.data.mixture import MixtureDataset, mixture_of
from visionmtl.data.transforms.joint import Transform
from visionmtl.types import Batch, MultiTaskDataset, Sample, TaskSpec

TIMEOUT = 300
"""Seconds after which a batch that no worker delivers is an error."""


Key = tuple[int, ...]
"""(epoch, index), or (epoch, index, repeat) where a sample comes another time in an epoch."""


class TransformedDataset(Dataset[Sample]):
    """A data set and its transform, indexed by keys."""

    def __init__(self, dataset: MultiTaskDataset, transform: Transform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        seed = int(np.random.SeedSequence([self.seed, *key]).generate_state(1)[0])
        return self.transform(self.dataset[key[1]], seed)


class EpochSampler(Sampler[list[Key]]):
    """Batches of keys, in an order drawn from (seed, epoch); can start in mid-epoch.

    Training drops the last, smaller batch, unless it is the only one: batch norm needs full
    batches.

    Of several processes each has its part: in training of every batch, so that two with batches of
    4 see together what one with batches of 8 sees; in evaluation of the samples, every one of which
    is in one part.

    Of a mixture an epoch has what its ``draw`` gives; in evaluation no batch has samples of two
    sets, which may differ in size.

    Args:
        dataset: the samples.
        batch_size: per process.
        seed: of the order.
        train: whether to shuffle, and to drop the last batch.
        rank: of this process.
        processes: how many there are.

    Raises:
        ValueError: fewer training samples than processes.

    Attributes:
        epoch: the epoch to draw.
        start: how many batches of it to leave out, because they were trained before.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        seed: int,
        train: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        num_samples = len(dataset)
        if train and processes > 1 and num_samples < processes:
            raise ValueError(
                f"{num_samples} training samples are too few for {processes} processes"
            )
        self.dataset = dataset
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.train = train
        self.rank = rank
        self.processes = processes
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        if not self.train:
            return sum(math.ceil(len(part) / self.batch_size) for part in self._parts())
        if self.num_samples == 0:
            return 0
        return max(1, self.num_samples // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[Key]]:
        if self.train:
            return self._training()
        return islice(self._evaluation(), self.start, None)

    def _training(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        order = self._order(epoch)
        times = _times_before(order)
        size = self.batch_size * self.processes
        for first in range(self.start * size, len(self) * size, size):
            batch = np.arange(first, min(first + size, self.num_samples))
            own = np.array_split(batch, self.processes)[self.rank]
            keys = zip(order[own].tolist(), times[own].tolist(), strict=True)
            yield [_key(epoch, index, repeat) for index, repeat in keys]

    def _order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch in their order, int64 (num_samples,)."""
        if isinstance(self.dataset, MixtureDataset):
            return self.dataset.draw(self.seed, epoch)
        sequence = np.random.SeedSequence([self.seed, epoch])
        return np.random.Generator(np.random.PCG64(sequence)).permutation(self.num_samples)

    def _evaluation(self) -> Iterator[list[Key]]:
        for part in self._parts():
            for first in range(0, len(part), self.batch_size):
                yield [(self.epoch, index) for index in part[first : first + self.batch_size]]

    def _parts(self) -> list[range]:
        """What this process evaluates of each set."""
        mixture = mixture_of(self.dataset)
        sizes = [self.num_samples]
        if mixture is not None:
            sizes = mixture.sizes
        parts = []
        start = 0
        for size in sizes:
            first = start + (self.rank - start) % self.processes
            parts.append(range(first, start + size, self.processes))
            start += size
        return parts


def _key(epoch: int, index: int, repeat: int) -> Key:
    """The key of a sample that has come ``repeat`` times before in the epoch."""
    if repeat:
        return epoch, index, repeat
    return epoch, index


def _times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry has come before."""
    by_value = np.argsort(order, kind="stable")
    first = np.searchsorted(order[by_value], order[by_value], side="left")
    times = np.empty(len(order), np.int64)
    times[by_value] = np.arange(len(order)) - first
    return times


def make_loader(
    dataset: MultiTaskDataset,
    tasks: Sequence[TaskSpec],
    transform: Transform,
    *,
    batch_size: int,
    train: bool,
    seed: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    processes: int = 1,
) -> tuple[DataLoader[Batch], EpochSampler]:
    """A loader for one of several processes, and the sampler that sets its epoch and start."""
    cv2.setNumThreads(0)  # OpenCV's thread pool does not survive a fork
    sampler = EpochSampler(dataset, batch_size, seed, train, rank, processes)
    samples: Any = TransformedDataset(dataset, transform, seed)  # collate makes batches of them
    loader: DataLoader[Batch] = DataLoader(
        samples,
        batch_sampler=sampler,
        collate_fn=partial(collate, tasks=list(tasks)),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        timeout=TIMEOUT if workers else 0,
        worker_init_fn=_init_worker if workers else None,
        # Of its own: starting an epoch must not draw from the random numbers of the model.
        generator=torch.Generator(),
    )
    return loader, sampler


def close_loader(loader: DataLoader[Batch]) -> None:
    """End the workers of a loader; iterating it again starts new ones."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()  # torch has no public way
        loader._iterator = None


def _init_worker(_: int) -> None:
    """Workers leave signals to the main process, which stops them in order.

    A group of their own keeps a signal to the whole group (Ctrl-C, ``timeout``) away from them.
    They do end on SIGTERM, by torch's handler: Python's exit sends it and waits. Workers whose main
    process is gone end within seconds.
    """
    cv2.setNumThreads(0)
    if os.name == "posix":
        os.setpgrp()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
