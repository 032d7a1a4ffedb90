from __future__ import annotations

import torch

from visionmtl.engine.meter import LossMeter

CPU = torch.device("cpu")


def test_means_are_over_the_steps_with_truth() -> None:
    meter = LossMeter(["semseg", "depth", "normals"], CPU)
    meter.add(torch.tensor([1.0, 4.0, 0.0]), [2, 1, 0])
    meter.add(torch.tensor([3.0, 0.0, 0.0]), [2, 0, 0])
    means, samples = meter.take()
    assert means == {"semseg": 2.0, "depth": 4.0}
    assert samples == {"semseg": 4, "depth": 1, "normals": 0}
    assert meter.take() == ({}, {"semseg": 0, "depth": 0, "normals": 0})


def test_state_survives_a_checkpoint() -> None:
    meter, other = LossMeter(["semseg"], CPU), LossMeter(["semseg"], CPU)
    meter.add(torch.tensor([1.5]), [2])
    other.load_state_dict(meter.state_dict())
    assert other.take() == meter.take() == ({"semseg": 1.5}, {"semseg": 2})
