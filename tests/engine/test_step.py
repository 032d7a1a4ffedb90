from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from visionmtl import TaskSpec, create_model
from visionmtl.balancing import BALANCERS
from visionmtl.balancing.backward import Balance, Scope
from visionmtl.data.batch import collate
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.engine.finite import FiniteCheck
from visionmtl.engine.step import losses_after, step_gradients
from visionmtl.engine.step_parts import StepParts, prepare
from visionmtl.losses import LOSSES, Criterion, build_loss
from visionmtl.types import KINDS, Batch, BoxTarget, DenseTarget, Sample, Target
from visionmtl.weighting import WEIGHTINGS, GradNorm

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique")
"""Operators for which the host waits for the device; ``lift_fresh`` is a tensor made from a
list.
"""


class Recorder(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def make_parts(
    specs: list[TaskSpec],
    losses: dict[str, str],
    bf16: bool = False,
    method: str | None = None,
    scope: Scope = "features",
    weighting: str = "constant",
) -> StepParts:
    torch.manual_seed(0)
    model = create_model("test_resnet", specs, decoder_options={"channels": 16})
    balance = None
    if method is not None:
        balance = Balance(BALANCERS[method](), model, scope, 1, lambda tensors: None)
    criterion = Criterion(
        {spec.name: build_loss(spec, type=losses.get(spec.name)) for spec in specs}
    )
    names = [spec.name for spec in specs]
    given = {"num_tasks": len(specs), "tasks": names}
    return StepParts(model, criterion, WEIGHTINGS.make(weighting, given, {}), balance, bf16=bf16)


def backward(parts: StepParts, *batches: Batch, number: int = 1) -> torch.Tensor:
    """The losses of a step, whose gradient is in ``.grad``."""
    return step_gradients(parts, prepare(parts, batches, number))


def losses_of(kind: str) -> list[str]:
    """The names of the losses of a kind of task."""
    return [name for name, loss in LOSSES.items() if kind in loss.kinds]


class Unchecked(FiniteCheck):
    """On CUDA the numbers are looked at one step later."""

    def _check(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "scope"),
    [(None, "features"), *((m, s) for m in ("sum", "pcgrad") for s in ("features", "parameters"))],
)
@pytest.mark.parametrize("position", range(max(len(losses_of(kind)) for kind in KINDS)))
def test_no_operator_of_a_step_makes_the_host_wait(
    position: int, method: str | None, scope: Scope
) -> None:
    data = RoomsDataset(2, (64, 64))
    kinds = {spec.name: losses_of(spec.kind.name) for spec in data.tasks}
    parts = make_parts(
        data.tasks,
        {task: names[position % len(names)] for task, names in kinds.items()},
        method=method,
        scope=scope,
    )
    parts.finite = Unchecked(list(kinds), parts.device, immediate=False)
    batch = collate([data[0], data[1]], data.tasks)
    with Recorder() as recorder:
        backward(parts, batch, batch)
    assert "aten.convolution.default" in recorder.names
    assert [name for name in recorder.names if any(part in name for part in WAITS)] == []


def test_the_recorder_sees_what_waits() -> None:
    with Recorder() as recorder:
        torch.tensor([1.0, 0.0]).nonzero()[0].item()
    assert {part for part in WAITS if any(part in name for name in recorder.names)} >= {
        "_local_scalar_dense",
        "nonzero",
        "lift_fresh",
    }


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("targets", "learns"),
    [
        ({}, False),
        ({"detection": BoxTarget(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))}, True),
    ],
    ids=["not annotated", "annotated and empty"],
)
def test_a_batch_without_truth_teaches_nothing(
    targets: dict[str, Target], learns: bool, bf16: bool
) -> None:
    specs = [
        TaskSpec.semseg(["a", "b"]),
        TaskSpec.depth(),
        TaskSpec.normals(),
        TaskSpec.detection(["c"]),
    ]
    parts = make_parts(specs, {}, bf16)
    image = np.zeros((64, 64, 3), np.uint8)
    batch: Batch = collate([Sample(image, targets, "a"), Sample(image, {}, "b")], specs)
    losses = backward(parts, batch)
    assert losses.dtype == torch.float32
    assert losses[:3].tolist() == [0.0, 0.0, 0.0]
    assert bool(losses[3] > 0) == learns
    norm = torch.nn.utils.get_total_norm(
        [p.grad for p in parts.model.parameters() if p.grad is not None]
    )
    assert norm.isfinite()
    assert bool(norm > 0) == learns


def void_depth(data: RoomsDataset, absent: bool) -> Batch:
    """Two rooms without depth: no label at all, or labels without a valid pixel."""
    samples = [data[0], data[1]]
    for sample in samples:
        depth = sample.targets.pop("depth")
        assert isinstance(depth, DenseTarget)
        if not absent:
            sample.targets["depth"] = DenseTarget(depth.value, np.zeros_like(depth.valid))
    return collate(samples, data.tasks)


@pytest.mark.parametrize(
    ("weighting", "method"),
    [("famo", None), ("gls", None), ("constant", "mgda"), ("gradnorm", "sum")],
)
def test_labels_without_a_valid_pixel_are_as_none(weighting: str, method: str | None) -> None:
    """A loss of 0 would rule what takes logarithms of losses, or the shortest gradient."""
    data, outcomes = RoomsDataset(2, (64, 64)), []
    for absent in (True, False):
        parts = make_parts(data.tasks, {}, method=method, weighting=weighting)
        batch = void_depth(data, absent)
        step = prepare(parts, [batch], 1)
        losses = step_gradients(parts, step)
        with torch.no_grad():
            parts.weighting.after_step(losses, losses_after(parts, step), step.present)
        gradients = [torch.zeros(1) if p.grad is None else p.grad for p in parts.model.parameters()]
        outcomes.append([*gradients, *parts.weighting.buffers(), parts.weights])
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_the_first_loss_of_gradnorm_is_that_of_a_step_with_truth() -> None:
    data = RoomsDataset(2, (64, 64))
    parts = make_parts(data.tasks, {}, method="sum", weighting="gradnorm")
    backward(parts, void_depth(data, absent=False))
    parts.model.zero_grad()
    losses = backward(parts, collate([data[0], data[1]], data.tasks), number=2)
    assert isinstance(parts.weighting, GradNorm)
    depth = [spec.name for spec in data.tasks].index("depth")
    assert parts.weighting.first_losses[depth] == losses[depth] > 0
