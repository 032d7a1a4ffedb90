"""The small convex problems behind the balancers, solved in float64 on the CPU; nothing here keeps
a state.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ZERO = 1e-30  # a squared norm up to this counts as a zero gradient, so that no weight overflows float32
_MAX_NEWTON_STEPS = 200  # 6 on average for power 1; an exit without convergence still gives positive, finite weights


def unit_gramian(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Norms and cosines of the gradients.

    Args:
        gramian: (T, T) on the CPU.

    Returns:
        Norms (T,), 1 in place of 0, and cosines (T, T), 0 where a gradient is 0; both float64.
    """
    squared = gramian.diagonal().double()
    norms = torch.where(squared > _ZERO, squared, 1.0).sqrt()
    cosines = (
        gramian.double() / norms / norms[:, None]
    )  # one after the other: the product of two norms may underflow
    alive = squared > _ZERO
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
    matrix, diagonal = cosines * root * root[:, None], root**2
    x = (
        (diagonal.sum() / matrix.sum()).pow(1 / (1 + power)).expand(len(root))
    )  # the minimiser along (1, ..., 1)
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


def minimise_nonnegative(matrix: Tensor, linear: Tensor) -> Tensor:
    """The y >= 0 that minimises ``y'My / 2 + c'y``, by principal pivoting (Murty 1974), which is
    finite.

    Args:
        matrix: M, (T, T), float64, positive definite, with entries of order 1.
        linear: c, (T,), float64.

    Returns:
        (T,), float64; exact but for rounding.
    """
    free = torch.zeros(len(linear), dtype=torch.bool)
    y = torch.zeros_like(linear)
    for _ in range(2 ** len(linear)):  # all sets of free entries; in practice T or so
        slack = matrix @ y + linear
        wrong = (torch.where(free, y, slack) < -1e-12).nonzero()
        if not len(wrong):
            break
        free[wrong[0]] ^= True
        y = torch.zeros_like(linear)
        y[free] = torch.linalg.solve(matrix[free][:, free], -linear[free])
    return y.clamp(min=0.0)
