"""The shortest vector that some gradients span, by their Gramian."""

from __future__ import annotations

import torch
from torch import Tensor

from visionmtl.balancing.quadratic import solve_nonnegative


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
    scaled = scale[:, None] * system * scale
    solution = scale * torch.linalg.lstsq(scaled, scale[:, None]).solution[:, 0]
    weights = torch.zeros_like(gramian[0])
    weights[support] = solution / solution.sum()
    return weights


def min_norm_weights(gramian: Tensor) -> Tensor:
    """Weights of the shortest sum_t w_t g_t with w >= 0 and sum_t w_t = 1.

    In the lengths u_t = w_t |g_t| of the parts it is, up to a factor, the u >= 0 that minimises
    |sum_t u_t g_t / |g_t||^2 + (sum_t u_t s / |g_t| - 1)^2 with any s, here the shortest |g_t|: so
    all entries of the least-squares problem are at most 1, however different the gradients are.

    Args:
        gramian: (T, T), float64, on the CPU.

    Returns:
        (T,); of several solutions (dependent gradients) one with few positive weights.
    """
    lengths = gramian.diagonal().clamp(min=0).sqrt()
    shortest = lengths.argmin()
    if lengths[shortest] == 0:
        weights = torch.zeros_like(lengths)
        weights[shortest] = 1.0
        return weights
    cosines = gramian / lengths / lengths[:, None]
    values, vectors = torch.linalg.eigh(cosines)
    root = values.clamp(min=0).sqrt()[:, None] * vectors.T
    ratios = lengths[shortest] / lengths
    right = torch.zeros(len(gramian) + 1, dtype=gramian.dtype)
    right[-1] = 1.0
    weights = ratios * solve_nonnegative(torch.cat([root, ratios[None]]), right)
    return weights / weights.sum()
