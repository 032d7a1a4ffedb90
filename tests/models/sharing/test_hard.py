from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING, HardSharing
from visionmtl.tasks import TaskSpec
from visionmtl.types import DetectionOutput, Prediction

TASK_SETS = [
    ["semseg", "detection"],
    ["detection"],
    ["depth"],
    ["depth", "normals"],
    ["detection", "normals", "depth", "semseg"],
]


def build(
    sharing: str, decoder: str, backbone: str, tasks: list[str], specs: list[TaskSpec]
) -> MultiTaskModel:
    chosen = [next(spec for spec in specs if spec.name == task) for task in tasks]
    heads = {task: {"channels": 8} for task in tasks}
    return create_model(
        backbone, chosen, sharing, decoder, decoder_options={"channels": 8}, heads=heads
    )


def loss_of(prediction: Prediction) -> Tensor:
    if isinstance(prediction, DetectionOutput):
        return (
            prediction.class_logits.sum() + prediction.distances.sum() + prediction.centerness.sum()
        )
    return prediction.square().sum()


def reached_by_autograd(model: MultiTaskModel) -> dict[str, set[int]]:
    """Per task, the ids of the parameters to which its loss has a path."""
    parameters = list(model.parameters())
    predictions = model(torch.rand(2, 3, 64, 64) * 255)
    reached = {}
    for task, prediction in predictions.items():
        grads = torch.autograd.grad(
            loss_of(prediction), parameters, retain_graph=True, allow_unused=True
        )
        reached[task] = {
            id(p) for p, grad in zip(parameters, grads, strict=True) if grad is not None
        }
    return reached


def ids(parameters: list[nn.Parameter]) -> set[int]:
    assert len({id(p) for p in parameters}) == len(parameters), "a parameter is listed twice"
    return {id(p) for p in parameters}


@pytest.mark.parametrize("tasks", TASK_SETS, ids="+".join)
@pytest.mark.parametrize(
    ("sharing", "backbone"),
    [(s, "test_resnet") for s in SHARING] + [(s, "test_vit") for s in ("hard", "independent")],
)
@pytest.mark.parametrize("decoder", ["fpn", "bifpn"])
def test_shared_and_task_parameters_agree_with_autograd(
    sharing: str, decoder: str, backbone: str, tasks: list[str], specs: list[TaskSpec]
) -> None:
    model = build(sharing, decoder, backbone, tasks, specs)
    reached = reached_by_autograd(model)
    counts = Counter(p for task in tasks for p in reached[task])
    shared = ids(model.shared_parameters())
    assert shared == {p for p, count in counts.items() if count >= 2}
    for task in tasks:
        own = ids(model.task_parameters(task))
        assert own == reached[task] - shared
        assert ids(list(model.heads[task].parameters())) <= own


@pytest.mark.parametrize("tasks", TASK_SETS, ids="+".join)
@pytest.mark.parametrize("decoder", ["fpn", "bifpn"])
def test_shared_and_task_parameters_cover_the_model_once(
    decoder: str, tasks: list[str], specs: list[TaskSpec]
) -> None:
    model = build("hard", decoder, "test_resnet", tasks, specs)
    sets = [ids(model.shared_parameters()), *(ids(model.task_parameters(task)) for task in tasks)]
    together = set().union(*sets)
    assert sum(len(s) for s in sets) == len(together)
    unused = [name for name, p in model.named_parameters() if id(p) not in together]
    if tasks == ["detection"] and decoder == "fpn":  # no head reads p2
        parts = ("lateral.0", "output.0")
        assert unused == [
            f"sharing.decoder.{part}.{kind}" for part in parts for kind in ("weight", "bias")
        ]
    else:
        assert unused == []


def test_single_task_shares_nothing(specs: list[TaskSpec]) -> None:
    assert build("hard", "fpn", "test_resnet", ["depth"], specs).shared_parameters() == []


def test_parameters_of_p2_are_private_to_the_task_that_reads_it(specs: list[TaskSpec]) -> None:
    model = build("hard", "fpn", "test_resnet", ["semseg", "detection"], specs)
    names = {id(p): name for name, p in model.named_parameters()}
    own = {names[id(p)].rpartition(".")[0] for p in model.task_parameters("semseg")}
    assert {name for name in own if "sharing" in name} == {
        "sharing.decoder.lateral.0",
        "sharing.decoder.output.0",
    }


def test_all_tasks_read_the_same_maps(specs: list[TaskSpec]) -> None:
    model = build("hard", "fpn", "test_resnet", ["depth", "normals", "semseg"], specs)
    sharing = model.sharing
    assert isinstance(sharing, HardSharing)
    image = torch.randn(2, 3, 64, 64)
    pyramids = sharing(image)
    assert list(pyramids) == ["depth", "normals", "semseg"]
    assert pyramids["depth"] is pyramids["semseg"]
    assert list(sharing(image, ["semseg", "depth"])) == ["depth", "semseg"]
    assert sharing.backbones == [sharing.backbone]
