"""The small convex problems behind the balancers, solved in float64 on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

_ZERO = 1e-30
"""A squared norm up to this counts as a zero gradient, so that no weight overflows float32."""
_MAX_NEWTON_STEPS = 200
"""6 on average for power 1; without convergence the weights are still positive and finite."""


def unit_gramian(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Norms and cosines of the gradients.

    Args:
        gramian: (T, T) on the CPU.

    Returns:
        Norms (T,), 1 in place of 0, and cosines (T, T), 0 where a gradient is 0; both float64.
    """
    squared = gramian.diagonal().double()
    alive = squared > _ZERO
    norms = torch.where(alive, squared, 1.0).sqrt()
    # One after the other: the product of two norms may underflow.
    cosines = gramian.double() / norms / norms[:, None]
    return norms, torch.where(alive & alive[:, None], cosines, 0.0)


def solve_power(gramian: Tensor, power: float) -> Tensor:
    """The w > 0 with ``G w = w ** -power``, elementwise.

    It minimises the strictly convex ``w'Gw / 2 - sum_t u(w_t)`` with ``u'(w) = w ** -power``; found
    by a damped Newton method. In units of the solution for orthogonal gradients,
    ``w_t = |g_t| ** (-2 / (1 + power)) x_t``, the problem reads ``Q x = k x ** -power`` with ``k``
    the diagonal of Q: the scales of the tasks cost no precision.

    Where some non-negative combination of the gradients is zero (opposite gradients) there is no
    solution. Eigenvalues of the cosines are therefore raised to 1e-8 (float32: T * 1e-7, below
    which they are rounding noise); this bounds the weights, and leaves them unchanged where the
    cosines are better conditioned. A zero gradient counts as a unit gradient that is orthogonal to
    all others: its weight, which moves nothing, is 1.

    Args:
        gramian: (T, T) on the CPU, finite.
        power: between 0.1 and 2; beyond, float64 is too coarse for gradients of very different
            norms.

    Returns:
        (T,) float64, positive.
    """
    norms, cosines = unit_gramian(gramian)
    floor = max(1e-8, len(gramian) * torch.finfo(gramian.dtype).eps)
    values, vectors = torch.linalg.eigh(cosines.fill_diagonal_(1.0))
    cosines = (vectors * values.clamp(min=floor)) @ vectors.T
    root = norms ** ((power - 1) / (power + 1))
    matrix = cosines * root * root[:, None]
    diagonal = root**2
    along_ones = (diagonal.sum() / matrix.sum()).pow(1 / (1 + power))
    x = along_ones.expand(len(root))  # the minimiser along (1, ..., 1)
    identity = torch.eye(len(root), dtype=torch.float64)
    for _ in range(_MAX_NEWTON_STEPS):
        # Newton in relative changes of x, rows and columns scaled so that the second term of the
        # Hessian is power * 1.
        slope = (diagonal * x ** (1 - power)).sqrt()
        scaled = x / slope
        hessian = matrix * scaled * scaled[:, None] + power * identity
        change = torch.linalg.solve(hessian, slope - scaled * (matrix @ x)) / slope
        size = change.abs().max()
        # With this damping the Hessian along the step stays below (1 + (power + 1) * size) times
        # the one at x, so every step lowers the objective and keeps x > 0, and near the solution
        # the steps become full ones.
        x = x * (1 + change / (1 + (power + 1) * size))
        if size < 1e-6:  # quadratic convergence: the error is now its square
            break
    weights: Tensor = x * norms ** (-2 / (1 + power))
    return weights


def solve_nonnegative(matrix: Tensor, right: Tensor) -> Tensor:
    """The y >= 0 (T,) that minimises ``|My - r|``, with M (R, T) and r (R,), float64 on the CPU."""
    from scipy.optimize import nnls

    solution, _ = nnls(matrix.numpy(), right.numpy())
    return torch.from_numpy(solution)
