"""Soft sharing: a penalty on the difference between the trunks of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.models.sharing.base import Sharing, TrunkPerTask


def l2_distance(layers: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum over layers of sum_t |W_t - mean W|^2, for two tasks half of |W_1 - W_2|^2.

    Duong et al. 2015, https://aclanthology.org/P15-2139, who penalise the distance of two parsers.
    """
    matrices = (_matrix(layer) for layer in layers)
    return torch.stack([(matrix - matrix.mean(0)).square().sum() for matrix in matrices]).sum()


def trace_norm(layers: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum over layers of the nuclear norm of M (T, P), whose rows are the flattened W_t.

    Yang and Hospedales 2017, https://arxiv.org/abs/1606.04038, 'last axis flattening'. It is the
    trace of G^(1/2), where G = M M^T, with the gradient G^(-1/2) M. The root is a pseudo-inverse:
    along singular values that are zero, as between equal trunks, and in float32 along those under
    about 1e-3 of the largest, the gradient is zero.
    """
    most = max(len(layer) for layer in layers)
    gramians = torch.stack(
        [F.pad(_gramian(_matrix(layer)), [0, most - len(layer)] * 2) for layer in layers]
    )
    half = (
        _inverse_root(gramians.detach()) * gramians
    ).sum() / 2  # its gradient is that of the norm
    return half + half.detach()


PENALTIES: dict[str, Callable[[Sequence[Sequence[Tensor]]], Tensor]] = {
    "l2_distance": l2_distance,
    "trace_norm": trace_norm,
}


def soft_sharing_penalty(kind: str, sharing: Sharing) -> Tensor:
    """How far the trunks of the tasks are from each other; a scalar with a graph.

    It takes the weights of matrices and convolutions (not vectors: norms and biases), each compared
    among the tasks whose loss it reaches.

    Raises:
        ValueError: unknown ``kind``, a scheme without a trunk per task, or fewer than two tasks.
    """
    if kind not in PENALTIES:
        raise ValueError(f"unknown soft sharing penalty {kind!r}; known: {', '.join(PENALTIES)}")
    if not isinstance(sharing, TrunkPerTask):
        what = f"{type(sharing).__name__} has none; use sharing independent, cross_stitch or nddr"
        raise ValueError(
            f"soft sharing penalty {kind} needs a backbone and decoder per task, {what}"
        )
    if len(sharing.levels) < 2:
        raise ValueError(
            f"soft sharing penalty {kind} needs at least two tasks, got {list(sharing.levels)}"
        )
    return PENALTIES[kind](_layers(sharing))


def _layers(sharing: TrunkPerTask) -> list[list[Tensor]]:
    """The tensors that have the same name in at least two trunks."""
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
    """(T, P) -> (T, T). Row by row, because a matrix product may be rounded to TF32, or to bfloat16
    by autocast.
    """
    return torch.stack([(matrix * row).sum(dim=1) for row in matrix])


def _inverse_root(gramians: Tensor) -> Tensor:
    """The pseudo-inverse of the square root of (L, T, T)."""
    values, vectors = torch.linalg.eigh(gramians)
    floor = values.shape[-1] * torch.finfo(values.dtype).eps * values[:, -1:]
    roots = torch.where(values > floor, values, torch.inf).rsqrt()
    out: Tensor = (vectors[:, :, None] * roots[:, None, None] * vectors[:, None]).sum(
        dim=-1
    )  # as in _gramian
    return out
