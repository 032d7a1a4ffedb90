"""Conflict-averse gradient descent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.simplex import affine_weights, min_norm_weights

_DEAD = torch.finfo(torch.float64).eps
"""A gradient is taken for zero if it is this much shorter than the longest one."""


@BALANCERS.register("cagrad")
class CAGrad(GradientBalancer):
    """CAGrad: the direction near the mean gradient g_0 that serves the worst-served task best.

    max_d min_t <g_t, d> with |d - g_0| <= c |g_0|. Its dual is min_w <g_w, g_0> + r |g_w| over the
    simplex, with g_w = sum_t w_t g_t and r = c |g_0|; then d = g_0 + r g_w / |g_w| (Section 3.1 and
    Algorithm 1 of https://arxiv.org/abs/2110.14048). The weights are 1 / T + r w_t / |g_w|, without
    a rescaling. A single task gets weight exactly 1, plain backpropagation, instead of the
    formula's 1 + c.

    Where g_w is zero to the Gramian's precision d is not determined by w; it is then the mean g_0,
    which lies in the ball and keeps the paper's convergence to the minimum of the mean loss
    (TorchJD stops there with d = 0). A task without a gradient counts in g_0 only: it is served
    alike by every d, and with it in the simplex g_w = 0 would always be at hand.

    Args:
        c: radius of the ball relative to |g_0|, in [0, 1); 0 is the mean gradient. The default is
            the authors' choice for NYUv2.
    """

    def __init__(self, *, c: Annotated[float, Field(ge=0, lt=1)] = 0.4) -> None:
        super().__init__()
        self.c = c

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        gram = gramian.cpu().double()
        weights = torch.full_like(gram[0], 1 / len(gram))
        lengths = gram.diagonal().clamp(min=0).sqrt()
        alive = lengths > _DEAD * lengths.max()
        square = max(0.0, gram.mean().item())
        radius = self.c * math.sqrt(square)
        if radius == 0.0 or alive.sum() < 2:
            return weights.to(gramian)
        cross = gram.mean(1)[alive]
        gram = gram[alive][:, alive]
        dual = _dual_weights(gram, cross, radius, square)
        length = _length(gram, dual, gramian.dtype)
        if length > 0.0:
            weights[alive] += radius / length * dual
        return weights.to(gramian)


def _dual_weights(gramian: Tensor, cross: Tensor, radius: float, square: float) -> Tensor:
    """The w of the simplex (T,) that minimises <g_w, g_0> + radius |g_w|.

    As |g_w| = min_s (|g_w|^2 / s + s radius^2) / (2 radius) at s = |g_w| / radius, w is for the
    right s the min-norm point of the gradients g_t + s g_0. |g_w| / s falls with s, so that s is
    found by a bracketed search. While the support stays the same, |g_w|^2 = a + b s^2 with a that
    of the affine hull, which gives s in closed form.

    Args:
        gramian: (T, T), float64.
        cross: (T,) the <g_t, g_0>.
        radius: of the ball around g_0.
        square: |g_0|^2.
    """
    low = 0.0
    high = math.inf
    scale = 1.0
    known: Tensor | None = None
    for _ in range(60):  # 2 to 8 rounds; a bound against rounding only
        shifted = gramian + scale * (cross[:, None] + cross) + scale**2 * square
        weights = min_norm_weights(shifted)
        support = weights > 0
        length = _length(gramian, weights, gramian.dtype)
        if length == 0.0 or (known is not None and support.equal(known)):
            break
        if length > scale * radius:
            low = scale
        else:
            high = scale
        flat = _length(gramian, affine_weights(gramian, support), gramian.dtype)
        slack = radius**2 - (length**2 - flat**2) / scale**2
        root = math.inf
        if slack > 0:
            root = flat / math.sqrt(slack)
        if low < root < high:
            known = support
            scale = root
        else:
            known = None
            scale = _between(low, high)
    return weights


def _length(gramian: Tensor, weights: Tensor, dtype: torch.dtype) -> float:
    """|sum_t w_t g_t|, 0 where it is lost in the rounding of a Gramian computed in ``dtype``."""
    square = (weights @ gramian @ weights).item()
    parts = (weights.abs() @ gramian.diagonal().clamp(min=0).sqrt()).item()
    if square <= len(weights) * torch.finfo(dtype).eps * parts**2:
        return 0.0
    return math.sqrt(square)


def _between(low: float, high: float) -> float:
    """A number inside the bracket, in the sense of its order of magnitude."""
    if high == math.inf:
        return 8 * low
    if low == 0.0:
        return high / 64
    return math.sqrt(low * high)
