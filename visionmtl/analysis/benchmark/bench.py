"""What the benchmarks measure, and how they take time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.data.loader import EpochSampler, TransformedDataset, make_loader
from visionmtl.engine.build import build_model
from visionmtl.engine.callbacks.checkpoints import Checkpoints
from visionmtl.engine.callbacks.several import Callbacks
from visionmtl.engine.datasets import build_dataset, build_transforms
from visionmtl.engine.run import build_trainer
from visionmtl.engine.trainer import Trainer
from visionmtl.models.factory import create_model_from_config
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import Batch, MultiTaskDataset

WARM_UP = 3
"""Rounds that are not counted."""
BATCHES = 4
"""Batches kept in memory for training and evaluation, and the fewest that a block of the loader
reads.
"""


class Stopwatch:
    """Takes the time of work on a device.

    Args:
        device: that has to finish before the clock stops.
        repeats: rounds that count.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats

    def seconds(self, work: Callable[[], object]) -> float:
        """The time until ``work`` has returned and the device has finished."""
        self._synchronise()
        start = time.perf_counter()
        work()
        self._synchronise()
        return time.perf_counter() - start

    def in_turn(
        self, works: Mapping[str, Callable[[], object]], warm_up: int = WARM_UP
    ) -> dict[str, list[float]]:
        """Seconds of every work in every round; every other round runs in reverse order."""
        times: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(-warm_up, self.repeats):
            order = list(works)
            if turn % 2:
                order.reverse()
            for name in order:
                elapsed = self.seconds(works[name])
                if turn >= 0:
                    times[name].append(elapsed)
        return times

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.device.type == "mps":
            torch.mps.synchronize()


class Bench(Stopwatch):
    """What the sections measure, built from a config when first asked for; a context manager, which
    cleans up.

    Attributes:
        config: the given one, without pretrained weights, loader processes for training and
            checkpoints within epochs.
        workers: loader processes of the given config.
        tasks: of the data set.
    """

    def __init__(self, config: Config, device: torch.device, repeats: int) -> None:
        super().__init__(device, repeats)
        self.config = config.model_copy(deep=True)
        self.config.model.backbone.pretrained = False
        self.config.data.workers = 0
        self.workers = config.data.workers
        self.config.trainer.checkpoint_every = None
        self.tasks = build_dataset(config, "train").tasks
        self._cleanup = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    @cached_property
    def trainer(self) -> Trainer:
        """The framework's trainer, without checkpoints.

        Its run folder is thrown away, and nobody sees its progress bar.
        """
        temporary = tempfile.TemporaryDirectory(prefix="visionmtl-benchmark-")
        folder = Path(self._cleanup.enter_context(temporary))
        screen = Console(file=StringIO(), force_terminal=True)  # draws as on a terminal
        trainer = build_trainer(self.config, folder, self.device, console=screen)
        callbacks = trainer.callbacks.callbacks
        trainer.callbacks = Callbacks([c for c in callbacks if not isinstance(c, Checkpoints)])
        trainer.callbacks.on_start(trainer)
        self._cleanup.callback(trainer.callbacks.on_end, trainer)
        return trainer

    def train_loader(self, workers: int) -> tuple[DataLoader[Batch], EpochSampler]:
        """A training loader of its own, and its sampler."""
        return make_loader(
            build_dataset(self.config, "train"),
            self.tasks,
            build_transforms(self.config, self.tasks)["train"],
            batch_size=self.config.trainer.batch_size,
            train=True,
            seed=self.config.seed,
            workers=workers,
            pin_memory=self.device.type == "cuda",
        )

    @cached_property
    def uncached(self) -> MultiTaskDataset:
        """The training samples as they lie on the disk."""
        config = self.config.model_copy(deep=True)
        for source in sources(config.data):
            source.cache = None
        return build_dataset(config, "train")

    @cached_property
    def train_batches(self) -> list[Batch]:
        return list(islice(self.trainer.loaders.train, BATCHES))

    @cached_property
    def val_batches(self) -> list[Batch]:
        return list(islice(self.trainer.loaders.val, BATCHES))

    @cached_property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the network sees: ``model.input_size``, or else those of a
        validation image.
        """
        if self.config.model.input_size is not None:
            return self.config.model.input_size
        transform = build_transforms(self.config, self.tasks)["val"]
        dataset = build_dataset(self.config, "val")
        sample = TransformedDataset(dataset, transform, self.config.seed)[0, 0]
        height, width = sample.image.shape[:2]
        return height, width

    @cached_property
    def model(self) -> MultiTaskModel:
        """The network, in evaluation mode."""
        return self.place(build_model(self.config, self.tasks)).eval()

    @cached_property
    def single_models(self) -> dict[str, MultiTaskModel]:
        """Per task a network of the same backbone, decoder and head, in evaluation mode."""
        config = self.model.config
        models = {}
        for spec in self.tasks:
            heads = {}
            if spec.name in config["heads"]:
                heads[spec.name] = config["heads"][spec.name]
            part = {
                **config,
                "tasks": [spec.to_dict()],
                "heads": heads,
                "sharing": "hard",  # one task has one trunk
                "sharing_options": {},
            }
            models[spec.name] = self.place(create_model_from_config(part)).eval()
        return models

    def place(self, model: MultiTaskModel) -> MultiTaskModel:
        """The model on the device, in the config's memory format."""
        model = model.to(self.device)
        if self.config.trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model

    def images(self, count: int) -> Tensor:
        """Noise (count, 3, H, W) uint8, of ``input_size``."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(
            0, 256, (count, 3, *self.input_size), dtype=torch.uint8, generator=generator
        )
        return noise.to(self.device)


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Median of each list by name, and its quartiles by name under ``quartiles``."""
    results: dict[str, Any] = {}
    quartiles = {}
    for name, values in samples.items():
        low, middle, high = map(float, np.percentile(values, (25, 50, 75)))
        results[name] = middle
        quartiles[name] = [low, high]
    return {**results, "quartiles": quartiles}


def milliseconds(seconds: Sequence[float]) -> list[float]:
    """Times of all rounds."""
    return [1e3 * value for value in seconds]


def rates(count: int, seconds: Sequence[float]) -> list[float]:
    """How many of ``count`` things per second, in all rounds."""
    return [count / value for value in seconds]


def ratios(times: Sequence[float], references: Sequence[float]) -> list[float]:
    """Each round over that of the reference."""
    return [time / reference for time, reference in zip(times, references, strict=True)]
