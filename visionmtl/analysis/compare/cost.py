"""What a network and its training cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visionmtl.analysis.compare.reading import Run
from visionmtl.analysis.compare.spread import Spread
from visionmtl.analysis.inspect.costs import count_macs, input_size, num_parameters
from visionmtl.models.factory import create_model_from_config


@dataclass(frozen=True)
class Cost:
    """The cost of one group.

    Attributes:
        parameters: of the network.
        input_size: (height, width) of the image that ``macs`` is for; None where the config does
            not tell.
        macs: multiply-accumulate operations of one image; None without ``input_size``.
        images_per_second: of training, on the machine of the run.
        minutes: of training and evaluation.
    """

    parameters: int
    input_size: tuple[int, int] | None
    macs: int | None
    images_per_second: Spread
    minutes: Spread


def measure_cost(runs: Sequence[Run]) -> Cost:
    """The cost of runs of one config; their network is built with random weights.

    Raises:
        ValueError: the ``config.json`` of the model describes none.
    """
    run = runs[0]
    size = input_size(run.config)
    try:
        model = create_model_from_config(run.model).eval()
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{run.folder / 'model' / 'config.json'}: it describes no model: {error}"
        ) from error
    macs = None
    if size is not None:
        macs = count_macs(model, torch.zeros(1, 3, *size, dtype=torch.uint8))
    return Cost(
        parameters=num_parameters(model.parameters()),
        input_size=size,
        macs=macs,
        images_per_second=Spread.of([run.images_per_second for run in runs]),
        minutes=Spread.of([run.minutes for run in runs]),
    )
