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

from visionmtl.analysis.benchmark.bench import BATCHES, Bench, medians
from visionmtl.analysis.benchmark.schemes import measure_schemes
from visionmtl.analysis.benchmark.training import measure_train_step, repeated, trainer_loop
from visionmtl.analysis.inspect.costs import count_macs
from visionmtl.config.schema import Config
from visionmtl.data.loader import EpochSampler, close_loader
from visionmtl.engine.evaluate import evaluate
from visionmtl.types import Batch, MultiTaskDataset


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Peak memory of predicting one image, and of training: network, optimiser and two steps."""
    cuda = bench.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(bench.device)
    start = 0 if cuda else _peak_resident()

    def peak() -> float:
        return (
            (torch.cuda.max_memory_allocated(bench.device) if cuda else _peak_resident()) - start
        ) / 2**20

    with torch.inference_mode():
        bench.model(bench.images(1))
    predicting = peak()
    del bench.model  # the sections that follow build it anew
    batches = repeated(bench, 2)  # the optimiser has its state from the first step on
    trainer_loop(bench)(batches)
    return {
        "measure": "peak of the CUDA allocator" if cuda else "growth of the peak resident memory",
        "predict_mib": predicting,
        "train_mib": peak(),
        "train_batch_size": bench.config.trainer.batch_size,
    }


def _peak_resident() -> int:
    """Bytes; it never falls in the life of a process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def measure_size(bench: Bench) -> dict[str, Any]:
    """Parameters, and multiply-accumulate operations of one image."""
    model, images = bench.model, bench.images(1)
    single = {task: count_macs(single, images) for task, single in bench.single_models.items()}
    macs = count_macs(model, images)
    return {
        "parameters": {
            "total": sum(p.numel() for p in model.parameters()),
            "shared": sum(p.numel() for p in model.shared_parameters()),
            "tasks": {
                spec.name: sum(p.numel() for p in model.task_parameters(spec.name))
                for spec in bench.tasks
            },
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
        times = bench.in_turn(
            {"decoding": reading, "one_core": partial(_take, stream, BATCHES)}, warm_up=1
        )
    rates = {
        f"{name}_images_per_s": [count / seconds for seconds in values]
        for name, values in times.items()
    }
    rates["ratio"] = [decoding / loader for decoding, loader in zip(*times.values(), strict=True)]
    block = max(
        BATCHES, 2 * bench.workers
    )  # workers deliver in bursts: a block holds all that they fetch ahead
    with _stream(bench, bench.workers) as stream:
        seconds = bench.in_turn({"configured": partial(_take, stream, block)}, warm_up=1)[
            "configured"
        ]
    rates["configured_images_per_s"] = [block * size / value for value in seconds]
    return {"workers": bench.workers, **medians(rates)}


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
    with torch.inference_mode():
        times = bench.in_turn(
            {f"batch_{n}": partial(bench.model, images) for n, images in batches.items()}
        )
    results: dict[str, Any] = dict(zip(("height", "width"), bench.input_size, strict=True))
    for (name, seconds), n in zip(times.items(), batches, strict=True):
        samples = {
            "latency_ms": [1e3 * s for s in seconds],
            "images_per_s": [n / s for s in seconds],
        }
        results[name] = medians(samples)
    return results


def measure_sharing(bench: Bench) -> dict[str, Any]:
    """One pass of the multi-task network against one pass of a network per task, batch 1."""
    images, models = bench.images(1), [bench.model, *bench.single_models.values()]
    with torch.inference_mode():
        times = bench.in_turn({str(i): partial(model, images) for i, model in enumerate(models)})
    multi, *single = ([1e3 * s for s in seconds] for seconds in times.values())
    rounds = [whole / sum(parts) for whole, *parts in zip(multi, *single, strict=True)]
    results = medians({"multi_ms": multi, "ratio": rounds})
    per_task = medians(dict(zip(bench.single_models, single, strict=True)))
    results["quartiles"]["single_ms"] = per_task.pop("quartiles")
    return {"multi_ms": results.pop("multi_ms"), "single_ms": per_task, **results}


def measure_evaluation(bench: Bench) -> dict[str, Any]:
    """``evaluate`` on batches in memory: prediction, box decoding, resampling and metrics."""
    batches = bench.val_batches
    images = sum(len(batch.images) for batch in batches)
    times = bench.in_turn(
        {"evaluate": lambda: evaluate(bench.model, batches, bench.device)}, warm_up=1
    )
    return {"images": images, **medians({"images_per_s": [images / s for s in times["evaluate"]]})}


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
    chosen, known = list(SECTIONS if only is None else only), SECTIONS | ON_REQUEST
    if unknown := sorted(set(chosen) - set(known)):
        raise ValueError(f"--only: unknown sections {unknown}; known: {', '.join(known)}")
    results = {}
    with Bench(config, device, repeats) as bench:
        for name, measure in known.items():
            if name in chosen:
                announce(name)
                results[name] = measure(bench)
    return results
