"""The weightings of TorchJD, for users who have it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer

_ROW_COUNTERS = (
    "Constant",
    "Mean",
    "Random",
    "Sum",
)  # read no more of the gradients than their number


@BALANCERS.register("torchjd")
class TorchJDBalancer(GradientBalancer):
    """A weighting of TorchJD (https://torchjd.org, version 0.18 or later), by name.

    The weighting sees the Gramian on the CPU, in its own precision. Its random choices follow
    ``generator``, if one is given. What it remembers between steps (GradVac, PCD) is in the extra
    state; it starts anew when the step has truth for other tasks than the step before, as TorchJD
    knows rows, not tasks.

    Args:
        name: for example ``UPGrad`` or ``UPGradWeighting``.
        options: of the weighting's constructor; a list of numbers becomes a tensor.

    Raises:
        ValueError: TorchJD or a package that the weighting needs is not installed; a name that is
            unknown or of a method that needs more than one batch's Gramian; options that the
            weighting refuses.
    """

    def __init__(self, *, name: str, **options: Any) -> None:
        super().__init__()
        if not isinstance(name, str):
            raise ValueError(f"name must be a string, got {name!r}")
        try:
            module = importlib.import_module("torchjd.aggregation")
        except ModuleNotFoundError as error:
            raise ValueError(
                "TorchJDBalancer needs TorchJD: pip install 'torchjd>=0.18'"
            ) from error
        known, short = gramian_weightings(module), name.removesuffix("Weighting")
        if short not in known:
            exists = hasattr(module, short) or hasattr(module, f"{short}Weighting")
            problem = "needs more than the Gramian of one batch" if exists else "is not in TorchJD"
            raise ValueError(
                f"TorchJD weighting {name!r} {problem}; choose from {', '.join(known)}"
            )
        try:
            values = {
                k: torch.tensor(v, dtype=torch.float32) if isinstance(v, list) else v
                for k, v in options.items()
            }
            weighting = getattr(module, f"{short}Weighting")(**values)
        except (ImportError, TypeError, ValueError) as error:
            raise ValueError(f"TorchJD weighting {name!r}: {error}") from error
        # In a tuple: as a child, its buffers, which are None until the first step, could not be
        # loaded.
        self._held = (weighting,)
        self._tasks: list[int] = []

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        (weighting,) = self._held
        rows = list(range(len(gramian)) if tasks is None else tasks)
        if rows != self._tasks and hasattr(weighting, "reset"):
            weighting.reset()
        self._tasks = rows
        host = gramian.detach().cpu()
        with nullcontext() if generator is None else _as_global(generator):
            weights: Tensor = weighting(host)
        return weights.to(gramian)

    def get_extra_state(self) -> dict[str, Any]:
        (weighting,) = self._held
        buffers = {key: value.clone() for key, value in weighting.named_buffers()}
        return {
            "tasks": list(self._tasks),
            "buffers": buffers,
            "key": getattr(weighting, "_state_key", None),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        (weighting,) = self._held
        self._tasks = list(state["tasks"])
        for key, value in state["buffers"].items():
            setattr(weighting, key, value.clone())
        if state["key"] is not None:
            weighting._state_key = state[
                "key"
            ]  # what TorchJD compares with the next Gramian to decide on a reset


@contextmanager
def _as_global(generator: torch.Generator) -> Iterator[None]:
    """Torch's global CPU source of random numbers is ``generator`` inside, and is restored
    after.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


def gramian_weightings(module: ModuleType) -> list[str]:
    """Names, without ``Weighting``, of the classes in ``torchjd.aggregation`` that work on the
    Gramian of one batch.
    """
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    aggregators = {
        name
        for name, value in classes.items()
        if issubclass(value, module.GramianWeightedAggregator)
    }
    return sorted(
        name for name in aggregators.union(_ROW_COUNTERS) if f"{name}Weighting" in classes
    )
