from __future__ import annotations

import torch

from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.tasks import TaskSpec

TASKS = [TaskSpec.depth(), TaskSpec.normals()]


def build(sharing: str = "independent") -> MultiTaskModel:
    return create_model("test_resnet", TASKS, sharing, decoder_options={"channels": 8})


def test_no_parameter_is_shared() -> None:
    model = build()
    assert model.shared_parameters() == []
    sizes = [sum(p.numel() for p in model.task_parameters(task)) for task in ("depth", "normals")]
    assert sum(sizes) == sum(p.numel() for p in model.parameters())


def test_one_backbone_per_task() -> None:
    model = build()
    first, second = model.sharing.backbones
    assert first is not second
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    weights = [next(b.parameters()) for b in (first, second)]
    assert not torch.equal(*weights), "the trunks start from different random weights"


def test_equals_hard_sharing_with_copied_weights() -> None:
    independent, hard = build().eval(), build("hard").eval()
    for trunk in independent.sharing.trunks.values():
        trunk[0].load_state_dict(hard.sharing.backbone.state_dict())
        trunk[1].load_state_dict(hard.sharing.decoder.state_dict())
    independent.heads.load_state_dict(hard.heads.state_dict())
    images = torch.rand(1, 3, 50, 70) * 255
    with torch.no_grad():
        found, expected = independent(images), hard(images)
    assert list(found) == ["depth", "normals"]
    assert all(torch.equal(found[task], expected[task]) for task in found)


def test_only_the_asked_trunk_runs() -> None:
    model = build()
    ran: list[str] = []
    for task, trunk in model.sharing.trunks.items():
        trunk.register_forward_hook(lambda *args, task=task: ran.append(task))
    model(torch.zeros(2, 3, 64, 64), tasks=["normals"])
    assert ran == ["normals"]


def test_loss_of_one_task_leaves_the_other_trunk_alone() -> None:
    model = build()
    model(torch.rand(2, 3, 64, 64) * 255)["depth"].sum().backward()
    assert all(p.grad is not None for p in model.task_parameters("depth"))
    assert all(p.grad is None for p in model.task_parameters("normals"))
