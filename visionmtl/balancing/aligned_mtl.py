"""Aligned-MTL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionmtl.balancing.base import BALANCERS, GradientBalancer
from visionmtl.balancing.quadratic import unit_gramian


@BALANCERS.register("aligned_mtl")
class AlignedMTL(GradientBalancer):
    """The mean of the gradients after their principal components were scaled to one length.

    That length is the smallest singular value. Senushkin et al. 2023,
    https://arxiv.org/abs/2305.19000, Algorithm 1: with the non-zero eigenvalues and eigenvectors of
    the Gramian, ``w = sqrt(l_min) V diag(l) ** -0.5 V' p``, here with equal preferences p = 1 / T
    (with p = 1, as in the authors' code, all weights are T times as large). Weights may be
    negative. With a zero Gramian they are 1 / T.

    How many eigenvalues count as non-zero is decided on the cosines of the gradients, so that a
    task with a short gradient is not taken for a linearly dependent one. There is no state.
    """

    def forward(
        self,
        gramian: Tensor,
        generator: torch.Generator | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        host = gramian.detach().cpu()
        num_tasks = len(host)
        preferences = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
        _, cosines = unit_gramian(host)
        noise = 10 * num_tasks * torch.finfo(gramian.dtype).eps
        rank = int((torch.linalg.eigvalsh(cosines) > noise).sum())
        if not rank:
            return preferences.to(gramian)
        values, vectors = torch.linalg.eigh(host.double())  # ascending
        vectors = vectors[:, -rank:]
        smallest = torch.finfo(torch.float64).eps * float(values[-1])
        singular = values[-rank:].clamp(min=smallest).sqrt()
        weights: Tensor = vectors @ (singular[0] / singular * (vectors.T @ preferences))
        return weights.to(gramian)
