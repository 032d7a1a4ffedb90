"""Data loaders whose samples depend on (seed, epoch, index) alone: not on workers, nor on where a
run was resumed.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence, Sized
from functools import partial
from itertools import islice

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
            return sum(math.ceil(len(own) / self.batch_size) for own in self._shares())
        return (
            max(1, self.num_samples // (self.batch_size * self.processes))
            if self.num_samples
            else 0
        )

    def __iter__(self) -> Iterator[list[Key]]:
        return self._training() if self.train else islice(self._evaluation(), self.start, None)

    def _training(self) -> Iterator[list[Key]]:
        epoch, size = self.epoch, self.batch_size * self.processes
        if isinstance(self.dataset, MixtureDataset):
            order = self.dataset.draw(self.seed, epoch)
        else:
            generator = np.random.Generator(
                np.random.PCG64(np.random.SeedSequence([self.seed, epoch]))
            )
            order = generator.permutation(self.num_samples)
        times = _times_before(order)
        for first in range(self.start * size, len(self) * size, size):
            batch = np.arange(first, min(first + size, self.num_samples))
            own = np.array_split(batch, self.processes)[self.rank]
            pairs = zip(order[own].tolist(), times[own].tolist(), strict=True)
            yield [(epoch, index, repeat) if repeat else (epoch, index) for index, repeat in pairs]

    def _evaluation(self) -> Iterator[list[Key]]:
        for own in self._shares():
            for first in range(0, len(own), self.batch_size):
                yield [(self.epoch, index) for index in own[first : first + self.batch_size]]

    def _shares(self) -> list[range]:
        """What this process evaluates of each set."""
        mixture = mixture_of(self.dataset)
        sizes = mixture.sizes if mixture else [self.num_samples]
        stops = np.cumsum(sizes).tolist()
        starts = [stop - size for stop, size in zip(stops, sizes, strict=True)]
        return [
            range(start + (self.rank - start) % self.processes, stop, self.processes)
            for start, stop in zip(starts, stops, strict=True)
        ]


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
    """A loader of ``Batch`` for one of several processes, and the sampler that sets its epoch and
    start.
    """
    cv2.setNumThreads(0)  # OpenCV's thread pool does not survive a fork
    sampler = EpochSampler(dataset, batch_size, seed, train, rank, processes)
    loader: DataLoader[Batch] = DataLoader(
        TransformedDataset(dataset, transform, seed),  # type: ignore[arg-type]  # collate turns samples into a Batch
        batch_sampler=sampler,
        collate_fn=partial(collate, tasks=list(tasks)),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        timeout=TIMEOUT if workers else 0,
        worker_init_fn=_init_worker if workers else None,
        generator=torch.Generator(),  # of its own: starting an epoch must not draw from the model's random numbers
    )
    return loader, sampler


def close_loader(loader: DataLoader[Batch]) -> None:
    """End the workers of a loader, which otherwise live as long as the loader; it may be iterated
    again.
    """
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
