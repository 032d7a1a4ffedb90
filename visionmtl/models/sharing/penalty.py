"""Soft sharing: penalties on the difference between the trunks of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.models.sharing.trunks import TrunkPerTask

Layers = Sequence[Sequence[Tensor]]
"""Per layer, the weights W_t that the tasks have there."""


def l2_distance(layers: Layers) -> Tensor:
    """Sum over layers of sum_t |W_t - mean W|^2, for two tasks half of |W_1 - W_2|^2.

    Duong et al. 2015, https://aclanthology.org/P15-2139, who penalise the distance of two parsers.
    """
    distances = []
    for layer in layers:
        matrix = _matrix(layer)
        distances.append((matrix - matrix.mean(0)).square().sum())
    return torch.stack(distances).sum()


def trace_norm(layers: Layers) -> Tensor:
    """Sum over layers of the nuclear norm of M (T, P), whose rows are the flattened W_t.

    Yang and Hospedales 2017, https://arxiv.org/abs/1606.04038, 'last axis flattening'. It is the
    trace of G^(1/2), where G = M M^T, with the gradient G^(-1/2) M. The root is a pseudo-inverse:
    along singular values that are zero, as between equal trunks, and in float32 along those under
    about 1e-3 of the largest, the gradient is zero.
    """
    most = max(len(layer) for layer in layers)
    padded = []
    for layer in layers:
        missing = most - len(layer)
        padded.append(F.pad(_gramian(_matrix(layer)), [0, missing, 0, missing]))
    gramians = torch.stack(padded)
    # Half the norm, with the gradient of the norm.
    half = (_inverse_root(gramians.detach()) * gramians).sum() / 2
    return half + half.detach()


PENALTIES: dict[str, Callable[[Layers], Tensor]] = {
    "l2_distance": l2_distance,
    "trace_norm": trace_norm,
}


def common_layers(sharing: TrunkPerTask) -> list[list[Tensor]]:
    """The weights of matrices and convolutions that have one name in at least two trunks.

    Vectors, that is norms and biases, are left out, and so is for each task what its loss does not
    reach.
    """
    layers: dict[str, list[Tensor]] = {}
    for task, trunk in sharing.trunks.items():
        reached = {id(p) for p in sharing.parameters_reaching(task)}
        for name, parameter in trunk.named_parameters():
            if parameter.ndim >= 2 and id(parameter) in reached:
                layers.setdefault(name, []).append(parameter)
    return [layer for layer in layers.values() if len(layer) >= 2]


def _matrix(layer: Sequence[Tensor]) -> Tensor:
    """(T, P), in at least float32."""
    dtype = torch.promote_types(layer[0].dtype, torch.float32)
    return torch.stack([weight.to(dtype).flatten() for weight in layer])


def _gramian(matrix: Tensor) -> Tensor:
    """(T, P) -> (T, T), row by row.

    A matrix product may be rounded to TF32, or to bfloat16 by autocast.
    """
    return torch.stack([(matrix * row).sum(dim=1) for row in matrix])


def _inverse_root(gramians: Tensor) -> Tensor:
    """The pseudo-inverse of the square root of (L, T, T)."""
    values, vectors = torch.linalg.eigh(gramians)
    floor = values.shape[-1] * torch.finfo(values.dtype).eps * values[:, -1:]
    roots = torch.where(values > floor, values, torch.inf).rsqrt()
    # No matrix product, as in _gramian.
    scaled = vectors[:, :, None] * roots[:, None, None] * vectors[:, None]
    root: Tensor = scaled.sum(dim=-1)
    return root
