"""What each sharing scheme costs: the same backbone, decoder, heads and tasks under every
scheme.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice
from typing import Any

import torch

from visionmtl.analysis.benchmark.bench import BATCHES, Bench, medians, milliseconds, ratios
from visionmtl.analysis.inspect.costs import count_macs, num_parameters
from visionmtl.config.schema import Config, ModelConfig
from visionmtl.engine.build import (
    build_criterion,
    build_model,
    build_parameter_groups,
    build_weighting,
)
from visionmtl.engine.optim import make_optimizer
from visionmtl.models.sharing import SHARING
from visionmtl.types import Batch

REFERENCES = ("hard", "independent")
"""The schemes that the others are compared with; they work with every backbone."""


class TrainingStep:
    """Forward pass, weighted loss, backward pass and optimiser step on the next of the batches;
    nothing else.
    """

    def __init__(self, bench: Bench, config: Config, batches: list[Batch]) -> None:
        self.device = bench.device
        self.bf16 = config.trainer.precision == "bf16"
        self.model = bench.place(build_model(config, bench.tasks))
        self.criterion = build_criterion(config, bench.tasks).to(bench.device)
        self.weighting = build_weighting(config, bench.tasks).to(bench.device)
        groups = build_parameter_groups(config, self.model, self.weighting)
        self.optimizer = make_optimizer(groups, config.optimizer.name, config.optimizer.lr)
        self.batches = cycle(batches)

    def __call__(self) -> None:
        batch = next(self.batches)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            predictions = self.model(batch.images)
        losses = self.criterion(predictions, batch.targets)
        present = [count > 0 for count in batch.annotated.values()]
        self.weighting(losses, present).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure_schemes(bench: Bench) -> dict[str, Any]:
    """Parameters, arithmetic, one pass at batch 1 and a training step of every scheme with its
    default options.

    All networks are in memory at once. A backbone that cannot be cut into stages has the
    ``REFERENCES`` alone.
    """
    loader, _ = bench.train_loader(workers=0)
    batches = [batch.to(bench.device) for batch in islice(loader, BATCHES)]
    steps = {name: _step(bench, name, batches) for name in REFERENCES}
    if steps["hard"].model.sharing.backbones[0].stages is not None:
        others = [name for name in SHARING if name not in REFERENCES]
        steps |= {name: _step(bench, name, batches) for name in others}
    image = bench.images(1)
    works = {name: partial(step.model.eval(), image) for name, step in steps.items()}
    with torch.inference_mode():
        passes = bench.in_turn(works)
    macs = {name: count_macs(step.model, image) for name, step in steps.items()}
    for step in steps.values():
        step.model.train()
    times = {"inference_ms": passes, "train_step_ms": bench.in_turn(steps)}
    results: dict[str, Any] = {"batch_size": bench.config.trainer.batch_size}
    for name, step in steps.items():
        parameters = num_parameters(step.model.parameters())
        results[name] = {"parameters": parameters, "macs": macs[name], **_times(times, name)}
    return results


def _step(bench: Bench, sharing: str, batches: list[Batch]) -> TrainingStep:
    """The training step of the config under another scheme, with its default options."""
    values = {**bench.config.model.model_dump(), "sharing": {"type": sharing}}
    model = ModelConfig.model_validate(values)
    return TrainingStep(bench, bench.config.model_copy(update={"model": model}), batches)


def _times(times: dict[str, dict[str, list[float]]], name: str) -> dict[str, Any]:
    """Milliseconds of a scheme, and the ratios of its rounds to those of the references."""
    samples = {}
    for what, seconds in times.items():
        samples[what] = milliseconds(seconds[name])
        for reference in REFERENCES:
            key = f"{what.removesuffix('_ms')}_over_{reference}"
            samples[key] = ratios(seconds[name], seconds[reference])
    return medians(samples)
