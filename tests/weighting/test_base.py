"""What every loss weighting promises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visionmtl.weighting import FAMO, STCH, WEIGHTINGS, ConstantWeighting, LossWeighting

MAKERS: dict[str, Callable[[int], LossWeighting]] = {
    **WEIGHTINGS,
    "constant": lambda num_tasks: ConstantWeighting([f"task{t}" for t in range(num_tasks)]),
    "stch": lambda num_tasks: STCH(num_tasks, warmup_epochs=2),
    "famo_cheap": lambda num_tasks: FAMO(num_tasks, second_forward=False),
}
STEPS = 15
ALL = [True, True, True]

every_method = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def steps_of(num_tasks: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Losses (T,) and Jacobian (T, 5) of each step."""
    generator = torch.Generator().manual_seed(seed)
    losses = [torch.rand(num_tasks, generator=generator) + 0.1 for _ in range(STEPS)]
    return [(row, torch.randn(num_tasks, 5, generator=generator)) for row in losses]


def state_of(weighting: LossWeighting) -> dict[str, Tensor]:
    """A copy of the state, flat: that of an optimiser by name and number of its parameter."""
    flat: dict[str, Tensor] = {}
    for name, value in copy.deepcopy(weighting.state_dict()).items():
        if isinstance(value, Tensor):
            flat[name] = value
            continue
        for number, moments in value["state"].items():
            for key, moment in moments.items():
                flat[f"{name}.{key}.{number}"] = moment
    return flat


def saved_and_loaded(weighting: LossWeighting, folder: Path) -> dict[str, Any]:
    """The state as a checkpoint brings it back."""
    torch.save(weighting.state_dict(), folder / "state.pt")
    state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
    return state


def assert_same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(right[name])), name


def test_the_base_class_is_a_contract_only() -> None:
    with pytest.raises(NotImplementedError):
        LossWeighting(2)(torch.ones(2), [True, True])


def test_num_tasks() -> None:
    assert LossWeighting(2).num_tasks == 2
    with pytest.raises(ValueError, match="num_tasks must be at least 1, got 0"):
        LossWeighting(0)


def test_names() -> None:
    assert set(WEIGHTINGS) >= {
        "constant", "db_mtl", "dwa", "famo", "gls",
        "gradnorm", "imtl_l", "rlw", "stch", "uncertainty",
    }  # fmt: skip


@every_method
def test_forward_is_pure(make: Callable[[int], LossWeighting], loop: Any) -> None:
    weighting = make(3)
    runner = loop(weighting)
    for number, (losses, jacobian) in enumerate(steps_of(3)):
        runner.step(number, losses, jacobian, ALL)
    before = state_of(weighting)
    losses = torch.tensor([1.0, 2.0, 3.0])
    values = [weighting(losses, ALL, torch.Generator().manual_seed(1)).item() for _ in range(2)]
    assert values[0] == values[1]
    assert_same_state(before, state_of(weighting))


@every_method
def test_an_absent_task_is_as_if_it_did_not_exist(
    make: Callable[[int], LossWeighting], loop: Any
) -> None:
    three, two = loop(make(3)), loop(make(2))
    for number, (losses, jacobian) in enumerate(steps_of(3)):
        losses[1] = 0.0
        of_three = three.step(number, losses, jacobian, [True, False, True])
        of_two = two.step(number, losses[[0, 2]], jacobian[[0, 2]], [True, True])
        assert of_three[1] == 0.0
        torch.testing.assert_close(of_three[[0, 2]], of_two)


@every_method
def test_an_absent_task_keeps_its_state(make: Callable[[int], LossWeighting], loop: Any) -> None:
    weighting = make(3)
    runner = loop(weighting)
    steps = steps_of(3)
    for number, (losses, jacobian) in enumerate(steps[:9]):
        runner.step(number, losses, jacobian, ALL)
    before = state_of(weighting)
    for number, (losses, jacobian) in enumerate(steps[9:], start=9):
        losses[1] = 0.0
        runner.step(number, losses, jacobian, [True, False, True])
    for name, value in state_of(weighting).items():
        if value.ndim:
            assert value[1] == before[name][1] or (value[1].isnan() and before[name][1].isnan()), (
                name
            )
        elif name.endswith(".1"):
            assert value == before[name], name


@every_method
def test_a_resumed_run_equals_the_uninterrupted_one(
    make: Callable[[int], LossWeighting], loop: Any, tmp_path: Path
) -> None:
    steps = steps_of(3)
    presents = [[True, number % 4 != 1, number % 5 != 2] for number in range(STEPS)]
    whole = loop(make(3))
    for number in range(8):
        whole.step(number, *steps[number], presents[number])
    resumed = loop(make(3))
    resumed.weighting.load_state_dict(saved_and_loaded(whole.weighting, tmp_path))
    if whole.optimizer is not None:
        resumed.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    for number in range(8, STEPS):
        of_whole = whole.step(number, *steps[number], presents[number])
        of_resumed = resumed.step(number, *steps[number], presents[number])
        assert torch.equal(of_whole, of_resumed)
    assert_same_state(state_of(whole.weighting), state_of(resumed.weighting))


@every_method
def test_a_restored_state_is_not_the_saved_one(
    make: Callable[[int], LossWeighting], loop: Any
) -> None:
    """A step that is taken back must leave what was saved as it is."""
    runner = loop(make(3))
    steps = steps_of(3)
    for number in range(4):
        runner.step(number, *steps[number], ALL)
    saved = copy.deepcopy(runner.weighting.state_dict())
    before = state_of(runner.weighting)
    runner.weighting.load_state_dict(saved)
    runner.step(4, *steps[4], ALL)
    runner.weighting.load_state_dict(saved)
    assert_same_state(before, state_of(runner.weighting))


@every_method
def test_losses_of_zero_stay_finite(make: Callable[[int], LossWeighting], loop: Any) -> None:
    weighting = make(3)
    runner = loop(weighting)
    for number, (losses, jacobian) in enumerate(steps_of(3)):
        losses[number % 3] = 0.0
        jacobian[number % 3] = 0.0
        assert runner.step(number, losses, jacobian, ALL).isfinite().all()
        assert weighting(losses, ALL).isfinite()
    assert runner.step(STEPS, torch.zeros(3), torch.zeros(3, 5), ALL).isfinite().all()


@every_method
def test_nothing_present_is_zero_with_a_graph(
    make: Callable[[int], LossWeighting], loop: Any
) -> None:
    weighting = make(2)
    for number, (losses, jacobian) in enumerate(steps_of(2)):
        loop(weighting).step(number, losses, jacobian, [True, True])
    losses = torch.zeros(2, requires_grad=True)
    total = weighting(losses, [False, False])
    total.backward()
    assert total.item() == 0.0
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.0, 0.0]
    loop(weighting).step(0, torch.zeros(2), torch.zeros(2, 5), [False, False])
    assert all(value.isfinite().all() for value in state_of(weighting).values())


@every_method
def test_one_task(make: Callable[[int], LossWeighting], loop: Any) -> None:
    runner = loop(make(1))
    for number, (losses, jacobian) in enumerate(steps_of(1)):
        assert runner.step(number, losses, jacobian, [True]) > 0


@every_method
def test_nan_of_a_present_task_is_kept(make: Callable[[int], LossWeighting]) -> None:
    assert make(2)(torch.tensor([1.0, torch.nan]), [True, True]).isnan()


@every_method
def test_nan_of_an_absent_task_is_dropped(
    make: Callable[[int], LossWeighting], weights_of: Any
) -> None:
    weights = weights_of(make(3), torch.tensor([1.0, torch.nan, 3.0]), [True, False, True])
    assert weights.isfinite().all()


@every_method
def test_present_must_have_one_entry_per_task(make: Callable[[int], LossWeighting]) -> None:
    with pytest.raises(ValueError, match="zip"):
        make(2)(torch.ones(2), [True])


@every_method
def test_hooks_between_forward_and_backward(
    make: Callable[[int], LossWeighting], loop: Any
) -> None:
    weighting = make(2)
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    total = weighting(losses, [True, True])
    with torch.no_grad():
        weighting.observe_gramian(torch.eye(2), losses.detach(), [True, True])
        weighting.after_step(losses.detach(), losses.detach() / 2, [True, True])
        weighting.end_epoch(losses.detach())
    total.backward()
    assert losses.grad is not None
    assert losses.grad.isfinite().all()
