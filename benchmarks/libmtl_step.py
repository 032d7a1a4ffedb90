"""A training step with PCGrad: visionmtl in both scopes and LibMTL.

The network, its parts and the batch are ours for all; LibMTL's ``HPS`` and ``PCGrad`` drive them as
its ``Trainer`` does, which itself needs ``cuda:0``. LibMTL 1.1.5, the newest on PyPI, is older than
torch 2: a module stands in for ``torchvision.models.utils``, which torchvision 0.13 removed, and
``zero_grad`` keeps the tensors, as it did before torch 2, or PCGrad would fail.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from types import ModuleType

import torch
from torch import Tensor, nn

from benchmarks.balanced import equal, ours
from benchmarks.common import DenseWorkload, Work, arguments, in_turn, report


class Encoder(nn.Module):
    """What LibMTL shares: backbone and decoder. A tuple of maps; of a list it would give each task
    one.
    """

    def __init__(self, workload: DenseWorkload) -> None:
        super().__init__()
        self.shared = nn.ParameterList(workload.model.shared_parameters())
        self.features = workload.model.features
        self.task = workload.tasks[0]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.features(images)[self.task])

    def zero_grad(self, set_to_none: bool = False) -> None:
        super().zero_grad(set_to_none)


class Head(nn.Module):
    """A head of ours as LibMTL calls it."""

    def __init__(self, workload: DenseWorkload, task: str) -> None:
        super().__init__()
        self.head = workload.model.heads[task]
        self.size = workload.size

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        prediction: Tensor = self.head(list(pyramid), self.size)
        return prediction


def libmtl(workload: DenseWorkload) -> Work:
    """The gradient of a step as LibMTL's ``Trainer`` computes it."""
    utils = ModuleType("torchvision.models.utils")
    utils.load_state_dict_from_url = torch.hub.load_state_dict_from_url  # type: ignore[attr-defined]
    sys.modules.setdefault(utils.__name__, utils)
    from LibMTL.architecture import HPS
    from LibMTL.weighting import PCGrad

    class Model(HPS, PCGrad):  # type: ignore[misc]  # LibMTL has no types
        pass

    device = workload.images.device
    model = Model(
        task_name=workload.tasks,
        encoder_class=partial(Encoder, workload),
        decoders=nn.ModuleDict({task: Head(workload, task) for task in workload.tasks}),
        rep_grad=False,
        multi_input=False,
        device=device,
    )
    model.init_param()

    def gradients() -> None:
        predictions = model(workload.images)
        losses = torch.zeros(len(workload.tasks), device=device)
        for t, loss in enumerate(workload.losses_apart(predictions)):
            losses[t] = loss
        model.backward(losses)

    return gradients


def main() -> None:
    options = arguments(__doc__ or "", rounds=40)
    workload = DenseWorkload(options.device)
    print(f"LibMTL {version('LibMTL')}; {workload}")
    gradients: dict[str, Work] = {
        "equal": partial(equal, workload),
        "visionmtl features": ours(workload, "features"),
        "visionmtl parameters": ours(workload, "parameters"),
        "LibMTL": libmtl(workload),
    }
    works = {name: partial(workload.step, work) for name, work in gradients.items()}
    report(in_turn(works, options.device, options.rounds), "equal")


if __name__ == "__main__":
    main()
