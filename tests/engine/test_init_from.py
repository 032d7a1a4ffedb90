from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visionmtl.engine.init_from import init_from
from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.types import TaskSpec
from visionmtl.zoo.folder import save_model

SEMSEG, DEPTH = TaskSpec.semseg(["a", "b"]), TaskSpec.depth()


def build(
    tasks: list[TaskSpec], sharing: str = "hard", backbone: str = "test_resnet", **options: int
) -> MultiTaskModel:
    return create_model(
        backbone, tasks, sharing, decoder_options={"channels": options.get("channels", 8)}
    )


def saved(folder: Path, *args: object, **options: object) -> str:
    save_model(build(*args, **options), folder)  # type: ignore[arg-type]
    return str(folder)


@pytest.mark.parametrize("sharing", ["independent", "cross_stitch", "nddr"])
def test_trunks_and_heads_come_from_single_task_models(sharing: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    singles = {spec.name: build([spec]) for spec in (SEMSEG, DEPTH)}
    for task, single in singles.items():
        save_model(single, tmp_path / task)
    model = build([SEMSEG, DEPTH], sharing)
    init_from(model, {task: str(tmp_path / task) for task in singles})
    for task, single in singles.items():
        backbone, decoder = model.sharing.trunk(task)
        pairs = [
            (backbone, single.sharing.trunk(task)[0]),
            (decoder, single.sharing.trunk(task)[1]),
        ]
        for own, trained in [*pairs, (model.heads[task], single.heads[task])]:
            for name, tensor in trained.state_dict().items():
                assert torch.equal(own.state_dict()[name], tensor), name


def test_independent_networks_started_from_single_tasks_predict_the_same(tmp_path: Path) -> None:
    single = build([DEPTH])
    save_model(single, tmp_path)
    model = build([SEMSEG, DEPTH], "independent")
    init_from(model, {"depth": str(tmp_path)})
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(model.eval()(image)["depth"], single.eval()(image)["depth"])


def test_a_task_of_another_name_but_the_same_kind(tmp_path: Path) -> None:
    source = saved(tmp_path, [TaskSpec.depth(name="distance")])
    model = build([DEPTH], "independent")
    init_from(model, {"depth": source})


@pytest.mark.parametrize(
    ("task", "there", "here", "message"),
    [
        (
            "normals",
            [DEPTH],
            "independent",
            r"^model.init_from.normals: unknown task; the model has \['semseg', 'depth'\]$",
        ),
        (
            "semseg",
            [DEPTH],
            "independent",
            r"^model.init_from.semseg: .* has no task 'semseg' of kind 'semseg'$",
        ),
        (
            "depth",
            [DEPTH],
            "hard",
            r"^model.init_from.depth: HardSharing has no trunk of its own for task 'depth'$",
        ),
        (
            "depth",
            [DEPTH],
            "mtan",
            r"^model.init_from.depth: MTAN has no trunk of its own for task 'depth'$",
        ),
        (
            "depth",
            [SEMSEG, DEPTH],
            "nddr",
            r"^model.init_from.depth: HardSharing has no trunk of its own for task 'depth'$",
        ),
    ],
)
def test_refusals(
    task: str, there: list[TaskSpec], here: str, message: str, tmp_path: Path
) -> None:
    source = saved(tmp_path, there)
    with pytest.raises(ValueError, match=message):
        init_from(build([SEMSEG, DEPTH], here), {task: source})


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        (
            TaskSpec.semseg(["b", "a"]),
            SEMSEG,
            r"semseg: .* has the classes \['b', 'a'\], this model \['a', 'b'\]$",
        ),
        (
            TaskSpec.depth(max_depth=80),
            DEPTH,
            r"depth: .* has the max_depth 80.0, this model 10.0$",
        ),
    ],
)
def test_a_task_of_another_meaning(
    there: TaskSpec, here: TaskSpec, message: str, tmp_path: Path
) -> None:
    source = saved(tmp_path, [there])
    with pytest.raises(ValueError, match=r"^model.init_from." + message):
        init_from(build([here], "independent"), {here.name: source})


def test_a_source_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match=r"^model.init_from.depth: 'nowhere': looked for a zoo name"
    ):
        init_from(build([DEPTH], "independent"), {"depth": "nowhere"})
    with pytest.raises(ValueError, match=r"^model.init_from.depth: MTAN has no trunk of its own"):
        init_from(build([DEPTH], "mtan"), {"depth": "nowhere"})


def test_parts_of_other_shapes(tmp_path: Path) -> None:
    source = saved(tmp_path, [DEPTH], channels=16)
    message = r"is test_resnet, fpn of 16 channels, heads {}; this model is test_resnet, fpn of 8 channels, heads {}$"
    with pytest.raises(ValueError, match=message):
        init_from(build([DEPTH], "independent"), {"depth": source})
