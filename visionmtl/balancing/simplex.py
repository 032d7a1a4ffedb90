"""The shortest vector that some gradients span, by their Gramian: exact active-set solvers for few
tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def affine_weights(gramian: Tensor, support: Tensor) -> Tensor:
    """Weights of the shortest sum_t w_t g_t with sum_t w_t = 1, of either sign.

    Args:
        gramian: (T, T), float64, on the CPU.
        support: (T,) bool, the tasks that may have a weight; at least one.

    Returns:
        (T,), 0 outside the support. Of several solutions (affinely dependent gradients) the one
        that solves the scaled system with the smallest norm.
    """
    block = gramian[support][:, support]
    # Adding any s > 0 to all entries (a further coordinate sqrt(s) for all gradients) makes the
    # system regular and keeps the solution up to its scale. The smallest square length and a unit
    # diagonal keep small gradients visible.
    smallest = block.diagonal().min()
    system = block + torch.where(smallest > 0, smallest, 1.0)
    scale = system.diagonal().rsqrt()
    solution = (
        scale * torch.linalg.lstsq(scale[:, None] * system * scale, scale[:, None]).solution[:, 0]
    )
    weights = torch.zeros_like(gramian[0])
    weights[support] = solution / solution.sum()
    return weights


def min_norm_weights(gramian: Tensor) -> Tensor:
    """Weights of the shortest sum_t w_t g_t with w >= 0 and sum_t w_t = 1.

    Wolfe's algorithm (Finding the nearest point in a polytope, https://doi.org/10.1007/BF01580381):
    from the shortest gradient on, the gradient that shortens the point most joins the support, on
    which the problem is solved exactly.

    Args:
        gramian: (T, T), float64, on the CPU.

    Returns:
        (T,); of several solutions (dependent gradients) one with few positive weights.
    """
    lengths = gramian.diagonal().clamp(min=0).sqrt()
    weights = torch.zeros_like(lengths)
    weights[lengths.argmin()] = 1.0
    square = gramian.diagonal().min()
    for _ in range(10 * len(gramian)):  # ends long before; a bound against rounding only
        gain = (square - gramian @ weights) / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
        gain[weights > 0] = 0.0
        entering = gain.argmax()
        if gain[entering] <= 1e-12 * (weights @ lengths):
            break
        candidate = _solve_from(gramian, weights, entering)
        shorter = candidate @ gramian @ candidate
        if not shorter < square:
            break
        weights, square = candidate, shorter
    return weights


def _solve_from(gramian: Tensor, weights: Tensor, entering: Tensor) -> Tensor:
    """The minimiser on the support of ``weights`` and ``entering``, less what falls to 0 on the
    straight way there.
    """
    support = weights > 0
    support[entering] = True
    target = affine_weights(gramian, support)
    while (target[support] <= 0).any():
        step = torch.where(support & (target <= 0), weights / (weights - target), torch.inf)
        weights = weights + step.min() * (target - weights)
        support &= step > step.min()
        weights = torch.where(support, weights, 0.0)
        target = affine_weights(gramian, support)
    return target
