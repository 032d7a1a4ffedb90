"""What the comparisons share: a clock, a line of the report, and a network with a batch."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles

import torch
from torch import Tensor
from torch.nn.functional import normalize

from visionmtl import create_model
from visionmtl.losses import Criterion, build_loss
from visionmtl.tasks import TaskSpec
from visionmtl.types import Batch, DenseTargets, Prediction

Work = Callable[[], object]


def arguments(description: str, rounds: int, **texts: str) -> argparse.Namespace:
    """The command line: ``--device``, ``--rounds``, ``--threads`` (set here) and ``texts``.

    Args:
        description: of the program.
        rounds: by default.
        texts: names of further options, and what they are by default.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, default in texts.items():
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=rounds, help="measured rounds")
    parser.add_argument("--threads", type=int, default=2, help="of torch on the CPU")
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    print(f"{platform.processor() or platform.machine()}, {found.threads} threads, {found.device}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    return found


def in_turn(
    works: Mapping[str, Work], device: torch.device, rounds: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """Seconds of every work in every round; every other round runs in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-warm_up, rounds):
        order = list(works)
        if turn % 2:
            order.reverse()
        for name in order:
            elapsed = _seconds(works[name], device)
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds


def report(seconds: Mapping[str, list[float]], reference: str) -> None:
    """Print medians, and ratios to ``reference`` within each round, with their quartiles."""
    print(f"{'':24} {'ms':>8} {'of ' + reference:>16} {'quartiles':>16}")
    for name, values in seconds.items():
        pairs = zip(values, seconds[reference], strict=True)
        ratios = [value / base for value, base in pairs]
        low, _, high = quantiles(ratios, n=4)
        print(
            f"{name:24} {1e3 * median(values):8.1f} {median(ratios):16.2f} {low:8.2f} {high:7.2f}"
        )


def _seconds(work: Work, device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    work()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class DenseWorkload:
    """ResNet-18 with an FPN and three dense heads, hard sharing; random weights and data.

    Attributes:
        tasks: names, in task order.
        images: uint8 (B, 3, H, W).
        targets: task -> what its loss reads.
    """

    backbone = "resnet18"
    batch = 4
    size = (128, 160)

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        specs = [
            TaskSpec.semseg([f"class {i}" for i in range(13)]),
            TaskSpec.depth(max_depth=10.0),
            TaskSpec.normals(),
        ]
        self.tasks = [spec.name for spec in specs]
        self.model = create_model(self.backbone, specs).to(device).train()
        self.criterion = Criterion({spec.name: build_loss(spec) for spec in specs}).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        batch = self._random_batch().to(device)
        self.images = batch.images
        self.targets = self.criterion.prepare(batch)

    def __str__(self) -> str:
        height, width = self.size
        return f"{self.backbone}, FPN, 3 dense heads, batch {self.batch}, {height} x {width}"

    def losses_apart(self, predictions: Mapping[str, Prediction]) -> list[Tensor]:
        """The loss of each task, without a node in the graph that they share."""
        pairs = zip(self.criterion.tasks, self.criterion.losses, strict=True)
        return [loss(predictions[task], self.targets[task]) for task, loss in pairs]

    def step(self, gradients: Work) -> None:
        """A training step; ``gradients`` fills ``.grad``."""
        gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _random_batch(self) -> Batch:
        shape = (self.batch, *self.size)
        valid = torch.ones(shape, dtype=torch.bool)
        annotated = torch.ones(self.batch, dtype=torch.bool)
        values = {
            "semseg": torch.randint(0, 13, shape, dtype=torch.uint8),
            "depth": torch.rand(self.batch, 1, *self.size) * 9 + 1,
            "normals": normalize(torch.randn(self.batch, 3, *self.size), dim=1),
        }
        targets = {task: DenseTargets(value, valid, annotated) for task, value in values.items()}
        images = torch.randint(0, 256, (self.batch, 3, *self.size), dtype=torch.uint8)
        ids = [f"noise {i}" for i in range(self.batch)]
        return Batch(images, {**targets}, ids, dict.fromkeys(targets, self.batch))
