"""What balancing the gradients costs: a training step with equal weighting and with PCGrad.

One network and one batch for all: ResNet-18 with an FPN and three dense heads, hard sharing, random
weights and data. ``benchmarks/`` has the same with other people's software.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from visionmtl.analysis.benchmark.bench import Stopwatch, medians, milliseconds, ratios
from visionmtl.balancing import PCGrad
from visionmtl.balancing.backward import Balance, Scope
from visionmtl.engine.step import step_gradients
from visionmtl.engine.step_parts import StepParts, prepare
from visionmtl.losses import Criterion, build_loss
from visionmtl.models.factory import create_model
from visionmtl.tasks import TaskSpec
from visionmtl.types import Batch, DenseTargets, Targets
from visionmtl.weighting import ConstantWeighting

BACKBONE, BATCH, SIZE = "resnet18", 4, (128, 160)
TASKS = [
    TaskSpec.semseg([f"class {i}" for i in range(13)]),
    TaskSpec.depth(10.0),
    TaskSpec.normals(),
]
REFERENCE = "equal"


class Workload:
    """The network, its losses, a batch and the optimiser, and the ways to come to the gradient of a
    step.

    Args:
        device: of all this.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = create_model(BACKBONE, TASKS, "hard", "fpn", False).to(device).train()
            batch = _random_batch().to(device)
        self.criterion = Criterion({spec.name: build_loss(spec) for spec in TASKS}).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        weighting = ConstantWeighting([spec.name for spec in TASKS]).to(device)
        self.parts = StepParts(self.model, self.criterion, weighting)
        self.step = prepare(self.parts, [batch], number=1)

    def gradients(self) -> dict[str, Callable[[], None]]:
        """Name -> what fills ``.grad``: plain PyTorch, or the engine with PCGrad, by scope."""
        return {
            REFERENCE: self._equal,
            "features": self._balanced("features"),
            "parameters": self._balanced("parameters"),
        }

    def train(self, gradients: Callable[[], None]) -> None:
        """A training step."""
        gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _equal(self) -> None:
        predictions = self.model(self.step.batches[0].images)
        self.criterion(predictions, self.step.targets[0]).sum().backward()

    def _balanced(self, scope: Scope) -> Callable[[], None]:
        balance = Balance(PCGrad(), self.model, scope, 1, self.parts.world.sum_)

        def gradients() -> None:
            self.parts.balance = balance
            step_gradients(self.parts, self.step)

        return gradients


def measure_balancing(device: torch.device, repeats: int) -> dict[str, Any]:
    """Times and memory of a training step.

    Returns:
        ``balancing``: how many times as long as with equal weighting a step takes, the median over
        the rounds; ``quartiles`` of that; ``step_ms`` with quartiles of its own; ``memory_mib``,
        the most that a step needs beside what is there before it; and what was measured.
    """
    workload = Workload(device)
    works = {}
    for name, gradients in workload.gradients().items():
        works[name] = partial(workload.train, gradients)
    times = Stopwatch(device, repeats).in_turn(works)
    relative = {}
    for name, seconds in times.items():
        if name != REFERENCE:
            relative[name] = ratios(seconds, times[REFERENCE])
    balancing = medians(relative)
    quartiles = balancing.pop("quartiles")
    height, width = SIZE
    return {
        "network": f"{BACKBONE}, FPN, hard sharing, {len(TASKS)} dense heads, batch {BATCH}, "
        f"{height} x {width}",
        "balancing": balancing,
        "quartiles": quartiles,
        "step_ms": medians({name: milliseconds(seconds) for name, seconds in times.items()}),
        "memory_mib": {name: step_memory(work, device) for name, work in works.items()},
    }


def step_memory(work: Callable[[], None], device: torch.device) -> float:
    """The most MiB that torch's allocator has given to ``work`` at a time; what was there before
    does not count.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            work()
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: float(event["ts"]))
    held = 0
    peak = 0
    for change in changes:
        held += change["args"]["Bytes"]
        peak = max(peak, held)
    return peak / 2**20


def _random_batch() -> Batch:
    annotated = torch.ones(BATCH, dtype=torch.bool)
    valid = torch.ones(BATCH, *SIZE, dtype=torch.bool)
    values = {
        "semseg": torch.randint(0, TASKS[0].num_classes, (BATCH, *SIZE), dtype=torch.uint8),
        "depth": torch.rand(BATCH, 1, *SIZE) * 9 + 1,
        "normals": torch.nn.functional.normalize(torch.randn(BATCH, 3, *SIZE), dim=1),
    }
    targets: dict[str, Targets] = {}
    for task, value in values.items():
        targets[task] = DenseTargets(value, valid, annotated)
    images = torch.randint(0, 256, (BATCH, 3, *SIZE), dtype=torch.uint8)
    sample_ids = [f"noise {i}" for i in range(BATCH)]
    return Batch(images, targets, sample_ids, dict.fromkeys(targets, BATCH))
