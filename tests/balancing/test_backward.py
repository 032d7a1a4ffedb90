from __future__ import annotations

import gc
import math
import multiprocessing
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl._errors import NonFiniteLossError
from visionmtl.balancing import BALANCERS, GradientBalancer, PCGrad
from visionmtl.balancing.backward import Balance, Scope
from visionmtl.balancing.cut_gradients import weighted
from visionmtl.balancing.jacobian_gradients import JacobianGradients
from visionmtl.engine.distributed import World
from visionmtl.engine.step import losses_after, step_gradients
from visionmtl.engine.step_parts import BALANCING, StepParts, prepare
from visionmtl.losses import Criterion, build_loss
from visionmtl.models.backbone import Backbone, create_backbone
from visionmtl.models.decoders import Decoder
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING
from visionmtl.tasks import TaskSpec
from visionmtl.types import Batch, DenseTargets, Pyramid
from visionmtl.weighting import WEIGHTINGS

TASKS = [TaskSpec.semseg(["a", "b", "c"]), TaskSpec.depth(), TaskSpec.normals()]
NAMES = [spec.name for spec in TASKS]
LEVELS = {
    "semseg": (0, 1),
    "depth": (0,),
    "normals": (1, 2),
}  # p4 is of normals alone, p5 of nobody
WIDTH, SIDE = 4, 32
METHODS = [name for name in BALANCERS if name != "torchjd"]
"""All of ours."""


class TinyBackbone(Backbone):
    """Four strided convolutions."""

    def __init__(self) -> None:
        super().__init__("tiny", [WIDTH] * 4, {})
        strides, widths = (4, 2, 2, 2), (3, *[WIDTH] * 3)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, WIDTH, s, s), nn.Tanh())
            for width, s in zip(widths, strides, strict=True)
        )
        names = [name for name, _ in self.named_parameters()]
        self.unread = [
            frozenset(n for n in names if int(n.split(".")[1]) > level) for level in range(4)
        ]

    def forward(self, x: Tensor) -> Pyramid:
        assert self.stages is not None
        return [x := stage(x) for stage in self.stages]


class TinyDecoder(Decoder):
    """A convolution per level."""

    def __init__(self, in_channels: Sequence[int], channels: int = WIDTH) -> None:
        super().__init__(channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 3, padding=1) for c in in_channels)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        return [torch.tanh(lateral(x)) for lateral, x in zip(self.lateral, pyramid, strict=False)]

    def parameters_reaching(self, levels: Sequence[int]) -> list[nn.Parameter]:
        return [p for level in levels for p in self.lateral[level].parameters()]

    def inputs_reaching(self, levels: Sequence[int]) -> list[int]:
        return list(levels)


class TinyHead(nn.Module):
    """A convolution per level that is read, and their sum."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self.levels, out = LEVELS[spec.name], {"semseg": 3, "depth": 1, "normals": 3}[spec.name]
        self.read = nn.ModuleList(nn.Conv2d(WIDTH, out, 1) for _ in self.levels)

    def forward(self, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
        maps = [
            F.interpolate(read(pyramid[i]), size)
            for read, i in zip(self.read, self.levels, strict=True)
        ]
        return torch.stack(maps).sum(0)


def make_model(sharing: str = "hard", tasks: Sequence[TaskSpec] = TASKS) -> MultiTaskModel:
    """A tiny network in float64 whose batch norms, where a scheme has some, keep samples apart."""
    torch.manual_seed(0)
    make_backbone = (lambda: create_backbone("test_resnet")) if sharing == "mtan" else TinyBackbone
    levels = {spec.name: LEVELS[spec.name] for spec in tasks}
    trunk = SHARING[sharing].build(levels, make_backbone, TinyDecoder)
    heads: dict[str, Any] = {spec.name: TinyHead(spec) for spec in tasks}
    model = MultiTaskModel(trunk, heads, tasks, {}).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, own=module: own  # type: ignore[method-assign,misc]
    return model


def make_batch(seed: int, samples: int = 8, side: int = SIDE) -> Batch:
    """Uneven numbers of valid pixels; depth for the first half only, normals for the first and the
    last sample.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, side, side)
    share = torch.linspace(0.1, 1.0, samples).view(-1, 1, 1)
    at = torch.arange(samples)
    annotated = {
        "semseg": at >= 0,
        "depth": at < samples // 2,
        "normals": (at == 0) | (at == samples - 1),
    }
    value = {
        "semseg": torch.randint(0, 3, shape, generator=generator).to(torch.uint8),
        "depth": 9 * torch.rand(samples, 1, side, side, generator=generator),
        "normals": F.normalize(torch.randn(samples, 3, side, side, generator=generator)),
    }
    targets = {
        name: DenseTargets(
            value[name],
            (torch.rand(shape, generator=generator) < share) & annotated[name].view(-1, 1, 1),
            annotated[name],
        )
        for name in NAMES
    }
    images = torch.randint(0, 256, (samples, 3, side, side), generator=generator).to(torch.uint8)
    return Batch(
        images,
        targets,
        [f"s{i}" for i in range(samples)],
        {n: int(a.sum()) for n, a in annotated.items()},
    )


def split(batch: Batch, *sizes: int) -> list[Batch]:
    """The batch in parts of these sizes."""
    parts, start = [], 0
    for size in sizes:
        s = slice(start, start := start + size)
        targets = {
            n: DenseTargets(t.value[s], t.valid[s], t.annotated[s])
            for n, t in batch.targets.items()
        }
        counts = {name: int(target.annotated.sum()) for name, target in targets.items()}
        parts.append(Batch(batch.images[s], targets, batch.sample_ids[s], counts))
    return parts


def make_parts(
    model: MultiTaskModel,
    method: str | None = None,
    scope: Scope = "parameters",
    weighting: str = "constant",
    every: int = 1,
    world: World | None = None,
    bf16: bool = False,
) -> StepParts:
    world = world or World()
    names = [spec.name for spec in model.tasks]
    learner = WEIGHTINGS.make(weighting, {"num_tasks": len(names), "tasks": names}, {})
    if learner.needs_gramian and method is None:
        method = "sum"
    balance = Balance(BALANCERS[method](), model, scope, every, world.sum_) if method else None
    criterion = Criterion({spec.name: build_loss(spec) for spec in model.tasks})
    return StepParts(model, criterion, learner, balance, world=world, bf16=bf16, seed=3)


def run(parts: StepParts, *batches: Batch, number: int = 1) -> Tensor:
    """The losses of a step, whose gradient is in ``.grad``."""
    return step_gradients(parts, prepare(parts, batches, number))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for n, p in model.named_parameters()
    }


def assert_close(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tolerance: float = 1e-7) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(
            value,
            b[name],
            rtol=tolerance,
            atol=tolerance * 1e-2,
            msg=lambda m, n=name: f"{n}: {m}",  # type: ignore[misc]
        )


def explicit(model: MultiTaskModel, batch: Batch, method: str) -> dict[str, Tensor]:
    """The gradient by its definition: flattened task gradients of the shared parameters, balanced
    as one vector.
    """
    parts = make_parts(model)
    losses = parts.criterion(model(batch.images), batch.targets)
    shared = model.shared_parameters()
    raw = [
        torch.autograd.grad(x, list(model.parameters()), retain_graph=True, allow_unused=True)
        for x in losses
    ]
    by_name = [
        {
            n: torch.zeros_like(p) if g is None else g
            for (n, p), g in zip(model.named_parameters(), of_task, strict=True)
        }
        for of_task in raw
    ]
    names = [n for n, p in model.named_parameters() if any(p is s for s in shared)]
    jacobian = torch.stack([torch.cat([g[n].flatten() for n in names]) for g in by_name])
    present = [t for t, count in enumerate(batch.annotated.values()) if count]
    weights = torch.zeros(len(losses)).double()
    rows = jacobian[present]
    weights[present] = BALANCERS[method]()(rows @ rows.T, parts.generator(1, BALANCING), present)
    factors = {n: weights if n in names else torch.ones_like(weights) for n in by_name[0]}
    return {n: sum(f * g[n] for f, g in zip(factors[n], by_name, strict=True)) for n in by_name[0]}


@pytest.mark.parametrize("sharing", ["hard", "cross_stitch", "nddr", "mtan"])
def test_the_sum_is_plain_backpropagation(sharing: str) -> None:
    batch = make_batch(
        0, side=64 if sharing == "mtan" else SIDE, samples=2 if sharing == "mtan" else 8
    )
    plain, balanced = make_model(sharing), make_model(sharing)
    expected = run(make_parts(plain), batch)
    torch.testing.assert_close(run(make_parts(balanced, "sum"), batch), expected)
    assert_close(gradients(balanced), gradients(plain))
    if sharing == "hard":
        other = make_model()
        run(make_parts(other, "sum", "features"), batch)
        assert_close(gradients(other), gradients(plain))


@pytest.mark.parametrize(
    ("method", "sharing"),
    [
        *((m, "hard") for m in METHODS),
        *((m, s) for m in ("pcgrad", "mgda") for s in ("cross_stitch", "nddr", "mtan")),
    ],
)
def test_shared_parameters_have_the_balanced_gradient_and_others_their_own(
    method: str, sharing: str
) -> None:
    batch = make_batch(
        1, side=64 if sharing == "mtan" else SIDE, samples=2 if sharing == "mtan" else 8
    )
    model = make_model(sharing)
    expected = explicit(model, batch, method)
    run(make_parts(model, method), batch)
    assert_close(gradients(model), expected, 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_features_are_balanced_at_the_pyramid(method: str) -> None:
    batch, model = make_batch(2), make_model()
    parts = make_parts(model, method, "features")
    pyramid = model.features(batch.images)["semseg"]
    losses = parts.criterion(
        model.predict(dict.fromkeys(NAMES, pyramid), (SIDE, SIDE)), batch.targets
    )
    raw = [torch.autograd.grad(x, pyramid, retain_graph=True, allow_unused=True) for x in losses]
    rows = [
        [torch.zeros_like(x) if g is None else g for x, g in zip(pyramid, of_task, strict=True)]
        for of_task in raw
    ]
    flat = torch.stack([torch.cat([g.flatten() for g in of_task]) for of_task in rows])
    weights = BALANCERS[method]()(flat @ flat.T, parts.generator(1, BALANCING))
    heads = list(model.heads.parameters())
    head_gradients = torch.autograd.grad(losses.sum(), heads, retain_graph=True)
    balanced = [
        sum(w * g for w, g in zip(weights, of_map, strict=True))
        for of_map in zip(*rows, strict=True)
    ]
    torch.autograd.backward(pyramid, balanced)
    for p, g in zip(heads, head_gradients, strict=True):
        p.grad = g
    expected = gradients(model)
    model.zero_grad()
    run(parts, batch)
    assert_close(gradients(model), expected, 1e-6)


EVERY_WAY: list[tuple[str | None, Scope, str]] = [
    *((method, scope, "constant") for method in METHODS for scope in ("parameters", "features")),
    *(("sum", "parameters", name) for name in WEIGHTINGS),
    ("pcgrad", "features", "uncertainty"),
    *((None, "parameters", name) for name in ("constant", "uncertainty", "dwa", "rlw", "imtl_l")),
]


@pytest.mark.parametrize(("method", "scope", "weighting"), EVERY_WAY)
def test_micro_batches_have_the_gradient_of_one_batch(
    method: str | None, scope: Scope, weighting: str
) -> None:
    """Also where a task is missing in some of them: depth in the last two, normals in the
    second.
    """
    results = []
    for sizes in ((8,), (3, 2, 3)):
        model = make_model()
        parts = make_parts(model, method, scope, weighting)
        parts.weighting.end_epoch(torch.tensor([1.0, 2.0, 3.0]))
        parts.weighting.end_epoch(torch.tensor([0.5, 1.9, 1.0]))
        losses = run(parts, *split(make_batch(3), *sizes))
        results.append(
            {
                "losses": losses,
                **gradients(model),
                **gradients(parts.weighting),
                "weights": parts.weights,
            }
        )
    assert_close(*results, tolerance=1e-5)  # type: ignore[misc]  # counts and learnt weights are float32


@pytest.mark.parametrize("scope", ["parameters", "features"])
@pytest.mark.parametrize("method", METHODS)
def test_a_task_without_truth_is_left_out(method: str, scope: Scope) -> None:
    """Shared parameters move as in a run of the other tasks; its own have a zero gradient."""
    batch = make_batch(4)
    batch.targets["depth"].valid.zero_()
    batch.targets["depth"].annotated.zero_()
    batch.annotated["depth"] = 0
    model, pair = make_model(), make_model(tasks=[TASKS[0], TASKS[2]])
    state = model.state_dict()
    pair.load_state_dict({key: state[key] for key in pair.state_dict()})
    parts = make_parts(model, method, scope)
    others = Batch(
        batch.images,
        {n: t for n, t in batch.targets.items() if n != "depth"},
        batch.sample_ids,
        {n: c for n, c in batch.annotated.items() if n != "depth"},
    )
    run(parts, *split(batch, 4, 4))
    run(make_parts(pair, method, scope), others)
    found, expected = gradients(model), gradients(pair)
    if scope == "features":
        assert_close({name: found[name] for name in expected}, expected, 1e-6)
    assert all(p.grad is not None and not p.grad.any() for p in model.heads["depth"].parameters())
    assert parts.balance is not None
    assert parts.balance.weights[1] == 1
    assert parts.balance.gramian[1].isnan().all()
    assert parts.balance.gramian[0, 2].isfinite()


def test_nothing_to_learn_from_gives_zeros() -> None:
    (batch,) = split(make_batch(5), 8)
    for name, target in batch.targets.items():
        target.valid.zero_()
        batch.annotated[name] = 0
    for scope in ("parameters", "features"):
        model = make_model()
        run(make_parts(model, "mgda", scope), batch)
        assert not any(g.any() for g in gradients(model).values())


def test_loss_weights_scale_the_gradients_before_they_are_balanced() -> None:
    batch, weights = make_batch(6), torch.tensor([0.5, 3.0, 2.0])
    model, scaled = make_model(), make_model()
    parts, others = make_parts(model, "mgda"), make_parts(scaled, "mgda")
    parts.weighting.weights.copy_(weights)
    real = others.criterion.forward
    others.criterion.forward = lambda *args: real(*args) * weights  # type: ignore[method-assign]
    torch.testing.assert_close(run(parts, batch) * weights, run(others, batch))
    assert_close(gradients(model), gradients(scaled), 1e-6)
    assert parts.balance is not None
    torch.testing.assert_close(parts.weights, parts.balance.weights * weights)


@pytest.mark.parametrize("scope", ["parameters", "features"])
def test_weights_are_kept_between_refreshes(scope: Scope) -> None:
    """Steps 1, 4 and 7 have new weights; in the others the shared gradient has the last ones, and
    heads their own.
    """
    model, plain = make_model(), make_model()
    parts = make_parts(model, "mgda", scope, every=3)
    assert parts.balance is not None
    seen = []
    for number in range(1, 5):
        batch = make_batch(number)
        model.zero_grad()
        run(parts, *split(batch, 5, 3), number=number)
        seen.append(parts.balance.weights.clone())
        plain.zero_grad()
        losses = make_parts(plain).criterion(plain(batch.images), batch.targets)
        losses.sum().backward()
        raw = gradients(plain)
        plain.zero_grad()
        (make_parts(plain).criterion(plain(batch.images), batch.targets) @ seen[-1]).backward()
        mixed, shared = gradients(plain), {id(p) for p in plain.shared_parameters()}
        trunk = {n for n, p in plain.named_parameters() if not n.startswith("heads")}
        balanced = (
            {n for n, p in plain.named_parameters() if id(p) in shared}
            if scope == "parameters"
            else trunk
        )
        assert_close(
            gradients(model), {n: mixed[n] if n in balanced else raw[n] for n in raw}, 1e-6
        )
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[3])


class Watched(GradientBalancer):
    """The sum; keeps what it was given."""

    def forward(self, gramian: Tensor, generator: Any = None, tasks: Any = None) -> Tensor:
        self.given = gramian
        return gramian.new_ones(len(gramian))


@pytest.mark.parametrize("scope", ["parameters", "features"])
def test_the_gramian_of_bf16_is_float32(scope: Scope) -> None:
    model = make_model().float()
    parts = make_parts(model, "sum", scope, bf16=True)
    assert parts.balance is not None
    parts.balance.balancer = watched = Watched()
    run(parts, make_batch(7))
    assert watched.given.dtype == parts.balance.weights.dtype == torch.float32
    exact = make_parts(make_model(), "sum", scope)
    run(exact, make_batch(7))
    assert exact.balance is not None
    torch.testing.assert_close(watched.given.double(), exact.balance.gramian, rtol=0.1, atol=1e-3)


def test_bf16_gradients_of_one_map_are_weighted_in_float32_and_rounded_once() -> None:
    generator = torch.Generator().manual_seed(0)
    own, read_by_two = torch.zeros(2, 1000).bfloat16().unbind()
    a, b, c = torch.randn(3, 1000, generator=generator).bfloat16().unbind()
    weights = torch.tensor([0.3, -1.7])
    maps, gradients = weighted([(0, own, a), (0, read_by_two, b), (1, read_by_two, c)], weights)
    assert len(maps) == 2
    assert maps[0] is own
    assert maps[1] is read_by_two
    assert torch.equal(gradients[0], (0.3 * a.float()).bfloat16())
    assert torch.equal(gradients[1], (0.3 * b.float() - 1.7 * c.float()).bfloat16())
    assert not torch.equal(gradients[1], (weights[0].bfloat16() * b) + (weights[1].bfloat16() * c))


@pytest.mark.parametrize("scope", ["parameters", "features"])
def test_a_gradient_that_is_not_finite_is_named(scope: Scope) -> None:
    model = make_model()
    real = model.heads["depth"].forward
    model.heads["depth"].forward = lambda *args: (x := real(*args)) + (0 * x).sqrt()
    parts = make_parts(model, "mgda", scope)
    with pytest.raises(
        NonFiniteLossError,
        match=r"^step 1: gradient of depth is nan; samples: s0, s1, s2, s3, s4, s5",
    ):
        run(parts, make_batch(8))
    assert parts.balance is not None
    assert torch.equal(parts.balance.weights, torch.ones(3).double())


def test_what_is_refused() -> None:
    def make(sharing: str, scope: Scope) -> Balance:
        return Balance(PCGrad(), make_model(sharing), scope, 1, World().sum_)

    with pytest.raises(
        ValueError,
        match="balancing needs trainable parameters that tasks share; with IndependentSharing",
    ):
        make("independent", "parameters")
    with pytest.raises(
        ValueError,
        match=r"balancing.scope features needs maps .* only hard sharing has, not CrossStitch",
    ):
        make("cross_stitch", "features")


def test_the_jacobian_does_not_outlive_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Tensor]] = []
    real = JacobianGradients.__init__

    def remember(self: JacobianGradients, *args: Any) -> None:
        real(self, *args)
        assert self._jacobian is not None
        alive.append(weakref.ref(self._jacobian))

    monkeypatch.setattr(JacobianGradients, "__init__", remember)
    gc.disable()
    try:
        run(make_parts(make_model(), "pcgrad"), *split(make_batch(9), 4, 4))
        assert len(alive) == 1
        assert alive[0]() is None
    finally:
        gc.enable()


def test_gradients_keep_the_memory_format_of_their_parameters() -> None:
    model = make_model().to(memory_format=torch.channels_last)
    reference = make_model()
    run(make_parts(model, "pcgrad"), make_batch(10))
    run(make_parts(reference, "pcgrad"), make_batch(10))
    assert_close(gradients(model), gradients(reference), 1e-6)
    for p in model.shared_parameters():
        assert p.grad is not None
        assert p.grad.stride() == p.stride()


PROCESSES = 2
CASES: list[tuple[str | None, Scope, str, str, int]] = [
    *(
        (method, scope, "constant", "hard", 2)
        for method in METHODS
        for scope in ("parameters", "features")
    ),
    *((None, "parameters", name, "hard", 1) for name in WEIGHTINGS),
    (None, "parameters", "constant", "hard", 2),
    ("pcgrad", "parameters", "uncertainty", "cross_stitch", 2),
    ("mgda", "parameters", "constant", "nddr", 1),
]
"""Method, scope, weighting, sharing, and micro-batches per process."""


def three_steps(world: World, case: tuple[str | None, Scope, str, str, int]) -> Tensor:
    """The parameters after training on this process's part of three batches; only the first part
    has depth.
    """
    method, scope, weighting, sharing, accumulate = case
    model = make_model(sharing)
    parts = make_parts(
        model, method, scope, weighting, every=2 if method == "mgda" else 1, world=world
    )
    learnt = [*model.parameters(), *parts.weighting.parameters()]
    optimizer = torch.optim.SGD(learnt, lr=0.05, momentum=0.5)
    for number in range(1, 4):
        own = split(make_batch(number), *[8 // world.size] * world.size)[world.rank]
        micro = (
            split(own, *[8 // world.size // accumulate] * accumulate) if world.size > 1 else [own]
        )
        step = prepare(parts, micro, number)
        losses = step_gradients(parts, step)
        optimizer.step()
        optimizer.zero_grad()
        after = losses_after(parts, step) if parts.weighting.needs_second_forward else None
        with torch.no_grad():
            parts.weighting.after_step(losses, after, step.present)
    return torch.cat([p.detach().double().flatten() for p in learnt])


def in_processes(work: Callable[[World], Any], folder: Path) -> list[Any]:
    """What ``work`` gives in each of two processes, which are forked: they need no seconds for
    imports.
    """

    def target(rank: int) -> None:
        torch.set_num_threads(1)
        store = f"file://{folder / 'store'}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
        torch.save(work(World(rank, PROCESSES)), folder / f"{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target, args=(rank,)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    both = in_processes(lambda world: [three_steps(world, case) for case in CASES], tmp_path)
    start = torch.cat([p.detach().flatten() for p in make_model().parameters()])
    for case, *found in zip(CASES, *both, strict=True):
        alone = three_steps(World(), case)
        assert torch.equal(*found), case
        torch.testing.assert_close(
            found[0],
            alone,
            rtol=1e-5,
            atol=1e-6,
            msg=lambda m, c=case: f"{c}: {m}",  # type: ignore[misc]
        )
        assert case[3] != "hard" or (alone[: len(start)] - start).abs().max() > 1e-3


def test_a_bad_loss_is_named_with_the_samples_of_all_processes(tmp_path: Path) -> None:
    def work(world: World) -> str:
        model = make_model()
        own = split(make_batch(0), 4, 4)[world.rank]
        if world.rank == 1:
            model.heads["semseg"].forward = lambda *args: torch.full((4, 3, SIDE, SIDE), math.nan)
        with pytest.raises(NonFiniteLossError) as caught:
            run(make_parts(model, "sum", world=world), own)
        return str(caught.value)

    messages = in_processes(work, tmp_path)
    assert (
        messages == ["step 1: loss of semseg is nan; samples: s0, s1, s2, s3, s4, s5, s6, s7"] * 2
    )


def test_random_choices_follow_seed_and_step_alone() -> None:
    model = make_model()
    before = torch.get_rng_state()
    run(make_parts(model, "pcgrad"), make_batch(0))
    assert torch.equal(torch.get_rng_state(), before)
