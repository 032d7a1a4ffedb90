"""The sections of a benchmark: each is a function from a ``Bench`` to plain numbers.

To add one, write the function and give it a line in ``SECTIONS``, or in ``ON_REQUEST`` if it takes
long.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch

from visionmtl.analysis.benchmark.bench import (
    BATCHES,
    Bench,
    medians,
    milliseconds,
    rates,
    ratios,
)
from visionmtl.analysis.benchmark.schemes import measure_schemes
from visionmtl.analysis.benchmark.training import measure_train_step, repeated, trainer_loop
from visionmtl.analysis.inspect.costs import count_macs, num_parameters
from visionmtl.config.schema import Config
from visionmtl.data.loader import EpochSampler, close_loader
from visionmtl.engine.evaluate import evaluate
from visionmtl.types import Batch, MultiTaskDataset


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Peak memory of predicting one image, and of training: network, optimiser and two steps."""
    memory = _Memory(bench.device)
    with torch.inference_mode():
        bench.model(bench.images(1))
    predicting = memory.peak()
    del bench.model  # the sections that follow build it anew
    batches = repeated(bench, 2)  # the optimiser has its state from the first step on
    trainer_loop(bench)(batches)
    return {
        "measure": memory.what,
        "predict_mib": predicting,
        "train_mib": memory.peak(),
        "train_batch_size": bench.config.trainer.batch_size,
    }


class _Memory:
    """The most memory that is in use from here on.

    Attributes:
        what: is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.what = "peak of the CUDA allocator"
            self._start = 0
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self.what = "growth of the peak resident memory"
            self._start = _peak_resident()

    def peak(self) -> float:
        """MiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return (_peak_resident() - self._start) / 2**20


def _peak_resident() -> int:
    """Bytes; it never falls in the life of a process."""
    unit = 1024
    if sys.platform == "darwin":
        unit = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_size(bench: Bench) -> dict[str, Any]:
    """Parameters, and multiply-accumulate operations of one image."""
    model = bench.model
    images = bench.images(1)
    macs = count_macs(model, images)
    single = {task: count_macs(alone, images) for task, alone in bench.single_models.items()}
    own = {task: num_parameters(model.task_parameters(task)) for task in single}
    return {
        "parameters": {
            "total": num_parameters(model.parameters()),
            "shared": num_parameters(model.shared_parameters()),
            "tasks": own,
        },
        "macs": {"multi": macs, "single": single, "ratio": macs / sum(single.values())},
    }


def measure_data(bench: Bench) -> dict[str, Any]:
    """The training loader alone: reading, augmenting, collating; and only reading as many samples,
    without cache.
    """
    size = bench.config.trainer.batch_size
    count = BATCHES * size
    with _stream(bench, 0) as stream:
        reading = partial(_read, bench.uncached, _drawn(bench, count))
        loading = partial(_take, stream, BATCHES)
        times = bench.in_turn({"decoding": reading, "one_core": loading}, warm_up=1)
    # Workers deliver in bursts: a block holds all that they fetch ahead.
    block = max(BATCHES, 2 * bench.workers)
    with _stream(bench, bench.workers) as stream:
        loading = partial(_take, stream, block)
        times |= bench.in_turn({"configured": loading}, warm_up=1)
    samples = {
        "decoding_images_per_s": rates(count, times["decoding"]),
        "one_core_images_per_s": rates(count, times["one_core"]),
        "ratio": ratios(times["decoding"], times["one_core"]),
        "configured_images_per_s": rates(block * size, times["configured"]),
    }
    return {"workers": bench.workers, **medians(samples)}


def _drawn(bench: Bench, count: int) -> list[int]:
    """The first training samples of a run: of every set of a mixture as many as training takes."""
    sampler = EpochSampler(bench.uncached, 1, bench.config.seed, train=True)
    return [index for ((_, index, *_),) in islice(cycle(sampler), count)]


def _read(dataset: MultiTaskDataset, indices: Iterable[int]) -> None:
    for index in indices:
        dataset[index]


def _take(stream: Iterator[Batch], batches: int) -> None:
    for _ in islice(stream, batches):
        pass


@contextmanager
def _stream(bench: Bench, workers: int) -> Iterator[Iterator[Batch]]:
    """Training batches, epoch after epoch."""
    loader, sampler = bench.train_loader(workers)

    def endless() -> Iterator[Batch]:
        while True:
            yield from loader
            sampler.epoch += 1

    yield endless()
    close_loader(loader)


def measure_forward(bench: Bench) -> dict[str, Any]:
    """The network alone, from uint8 images to raw predictions, at batch size 1 and that of the
    config.
    """
    batches = {n: bench.images(n) for n in sorted({1, bench.config.trainer.batch_size})}
    works = {f"batch_{n}": partial(bench.model, images) for n, images in batches.items()}
    with torch.inference_mode():
        times = bench.in_turn(works)
    height, width = bench.input_size
    results: dict[str, Any] = {"height": height, "width": width}
    for n in batches:
        seconds = times[f"batch_{n}"]
        samples = {"latency_ms": milliseconds(seconds), "images_per_s": rates(n, seconds)}
        results[f"batch_{n}"] = medians(samples)
    return results


def measure_sharing(bench: Bench) -> dict[str, Any]:
    """One pass of the multi-task network against one pass of a network per task, batch 1."""
    images = bench.images(1)
    models = [bench.model, *bench.single_models.values()]
    works = {str(i): partial(model, images) for i, model in enumerate(models)}
    with torch.inference_mode():
        times = bench.in_turn(works)
    multi, *single = map(milliseconds, times.values())
    sums = list(map(sum, zip(*single, strict=True)))
    results = medians({"multi_ms": multi, "ratio": ratios(multi, sums)})
    per_task = medians(dict(zip(bench.single_models, single, strict=True)))
    results["quartiles"]["single_ms"] = per_task.pop("quartiles")
    return {"multi_ms": results.pop("multi_ms"), "single_ms": per_task, **results}


def measure_evaluation(bench: Bench) -> dict[str, Any]:
    """``evaluate`` on batches in memory: prediction, box decoding, resampling and metrics."""
    batches = bench.val_batches
    images = sum(len(batch.images) for batch in batches)
    work = partial(evaluate, bench.model, batches, bench.device)
    seconds = bench.in_turn({"evaluate": work}, warm_up=1)["evaluate"]
    return {"images": images, **medians({"images_per_s": rates(images, seconds)})}


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "memory": measure_memory,  # first, while the process is still small
    "size": measure_size,
    "data": measure_data,
    "forward": measure_forward,
    "sharing": measure_sharing,
    "train_step": measure_train_step,
    "evaluation": measure_evaluation,
}
ON_REQUEST: dict[str, Callable[[Bench], dict[str, Any]]] = {"schemes": measure_schemes}
"""Sections that run only where they are named."""


def benchmark(
    config: Config,
    device: torch.device,
    *,
    only: Iterable[str] | None = None,
    repeats: int = 11,
    announce: Callable[[str], object] = lambda section: None,
) -> dict[str, dict[str, Any]]:
    """Measure a config.

    Args:
        config: the run; its data must exist.
        device: where to predict, train and evaluate.
        only: names of ``SECTIONS`` and ``ON_REQUEST``; None for all of ``SECTIONS``.
        repeats: timed repetitions of every number.
        announce: called with the name of each section before it starts.

    Returns:
        By section; the docstrings of the sections and ``docs/performance.md`` say what the numbers
        are.

    Raises:
        ValueError: unknown section, or a config that does not fit its data.
    """
    known = SECTIONS | ON_REQUEST
    chosen = set(SECTIONS)
    if only is not None:
        chosen = set(only)
    unknown = sorted(chosen - set(known))
    if unknown:
        raise ValueError(f"--only: unknown sections {unknown}; known: {', '.join(known)}")
    results = {}
    with Bench(config, device, repeats) as bench:
        for name, measure in known.items():
            if name in chosen:
                announce(name)
                results[name] = measure(bench)
    return results
