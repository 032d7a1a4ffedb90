"""The weightings of TorchJD, for users who have it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer

_ROW_COUNTERS = ("Constant", "Mean", "Random", "Sum")
"""Weightings that read no more of the gradients than their number."""


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
        try:
            module = importlib.import_module("torchjd.aggregation")
        except ModuleNotFoundError as error:
            raise ValueError(
                "TorchJDBalancer needs TorchJD: pip install 'torchjd>=0.18'"
            ) from error
        known = gramian_weightings(module)
        short = name.removesuffix("Weighting")
        if short not in known:
            problem = "is not in TorchJD"
            if hasattr(module, short) or hasattr(module, f"{short}Weighting"):
                problem = "needs more than the Gramian of one batch"
            raise ValueError(
                f"TorchJD weighting {name!r} {problem}; choose from {', '.join(known)}"
            )
        values = dict(options)
        try:
            for key, value in options.items():
                if isinstance(value, list):
                    values[key] = torch.tensor(value, dtype=torch.float32)
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
        if tasks is None:
            tasks = range(len(gramian))
        rows = list(tasks)
        if rows != self._tasks and hasattr(weighting, "reset"):
            weighting.reset()
        self._tasks = rows
        host = gramian.detach().cpu()
        with _as_global(generator):
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
            # What TorchJD compares with the next Gramian to decide on a reset.
            weighting._state_key = state["key"]


@contextmanager
def _as_global(generator: torch.Generator | None) -> Iterator[None]:
    """Torch's global CPU source of random numbers is ``generator`` inside; None leaves it."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


def gramian_weightings(module: ModuleType) -> list[str]:
    """Names, without ``Weighting``, of what in ``torchjd.aggregation`` takes one batch's Gramian.

    Args:
        module: ``torchjd.aggregation``.
    """
    candidates = set(_ROW_COUNTERS)
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, module.GramianWeightedAggregator):
            candidates.add(name)
    return sorted(
        name for name in candidates if isinstance(getattr(module, f"{name}Weighting", None), type)
    )
