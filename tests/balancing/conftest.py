"""Jacobians (T, P), float64, that the tests of the balancers share; their Gramians are
``jacobian @ jacobian.T``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

DEGENERATE = {
    "one": [[3.0, 4.0]],
    "one zero": [[0.0, 0.0]],
    "all zero": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
    "a zero row": [[1.0, 2.0], [0.0, 0.0], [-2.0, 1.0]],
    "two zero rows": [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]],
    "equal": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
    "parallel": [[1.0, 2.0], [3.0, 6.0]],
    "opposite": [[1.0, 2.0], [-1.0, -2.0]],
    "opposite, other length": [[1.0, 2.0], [-3.0, -6.0], [0.5, 1.0]],
    "opposite in a third": [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]],
    "zero in the hull": [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]],
    "rank two of four": [[1.0, 0.3], [0.2, 1.0], [-0.7, 0.4], [0.1, -0.9]],
    "orthogonal": [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]],
    "tiny": [[1e-15, 2e-15], [-2e-15, 1e-16]],
    "huge": [[1e15, 2e15], [-2e15, 1e14]],
    "tiny and huge": [[1e-12, 2e-12], [-2e12, 1e11], [1.0, -1.0]],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(DEGENERATE))
def degenerate(request: pytest.FixtureRequest) -> Tensor:
    return torch.tensor(DEGENERATE[request.param], dtype=torch.float64)


@pytest.fixture(scope="session")
def jacobians() -> list[Tensor]:
    """200 of full rank, T = 2..6; every second has task norms from 1e-3 to 1e3, one in three has
    little conflict.
    """
    generator = torch.Generator().manual_seed(0)
    return [
        _jacobian(generator, 2 + i % 5, 3 * (2 + i % 5), i % 2 == 1, i % 3 == 0) for i in range(200)
    ]


@pytest.fixture(scope="session")
def deficient() -> list[Tensor]:
    """60 of a rank below T = 3..6, half of them badly scaled."""
    generator = torch.Generator().manual_seed(1)
    return [
        _jacobian(generator, 3 + i % 4, 1 + i % (2 + i % 4), i % 2 == 1, False) for i in range(60)
    ]


def _jacobian(
    generator: torch.Generator, tasks: int, rank: int, badly_scaled: bool, common: bool
) -> Tensor:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    jacobian = normal(tasks, rank)
    if common:  # a shared direction: most pairs do not conflict
        jacobian = jacobian + 1.5 * normal(rank)
    if badly_scaled:
        jacobian = jacobian * 10 ** (
            6 * torch.rand(tasks, 1, generator=generator, dtype=torch.float64) - 3
        )
    return jacobian
