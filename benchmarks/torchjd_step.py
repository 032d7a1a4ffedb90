"""A training step with PCGrad: visionmtl in both scopes and TorchJD's ``mtl_backward``.

One network and one batch for all. The reference is a plain PyTorch step with equal weighting.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from torchjd.aggregation import PCGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from benchmarks.balanced import equal, ours
from benchmarks.common import DenseWorkload, Work, arguments, in_turn, report


def torchjd(workload: DenseWorkload) -> None:
    """The gradient as TorchJD's guide for multi-task learning computes it."""
    pyramids = workload.model.features(workload.images)
    predictions = workload.model.predict(pyramids, workload.size)
    losses = workload.losses_apart(predictions)
    mtl_backward(losses, features=pyramids[workload.tasks[0]])
    jac_to_grad(workload.model.shared_parameters(), PCGrad())


def main() -> None:
    options = arguments(__doc__ or "", rounds=40)
    workload = DenseWorkload(options.device)
    print(f"TorchJD {version('torchjd')}; {workload}")
    gradients: dict[str, Work] = {
        "equal": partial(equal, workload),
        "visionmtl features": ours(workload, "features"),
        "visionmtl parameters": ours(workload, "parameters"),
        "TorchJD": partial(torchjd, workload),
    }
    works = {name: partial(workload.step, work) for name, work in gradients.items()}
    report(in_turn(works, options.device, options.rounds), "equal")


if __name__ == "__main__":
    main()
