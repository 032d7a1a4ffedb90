from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from visionmtl import TaskSpec, create_model
from visionmtl.analysis.inspect.costs import Cost, Costs, input_size, measure_costs, saved_bytes
from visionmtl.analysis.inspect.pictures import draw, masks, mixing
from visionmtl.analysis.inspect.report import costs_table, stages_table
from visionmtl.cli.main import main
from visionmtl.config.load import parse_config
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.zoo.folder import save_model

TASKS = [
    TaskSpec.semseg(["wall", "floor"]),
    TaskSpec.depth(),
    TaskSpec.normals(),
    TaskSpec.detection(["chair"]),
]
UNREAD = (32 + 1) * 8 + (
    8 * 9 + 1
) * 8  # detection reads p3..p5: the lateral and output convolutions of its own p2
CHANNELS = (32, 48, 192, 96)
CONFIG = """
data: {type: rooms, size: [64, 96], train: {samples: 2}, val: {samples: 1}}
tasks: [semseg, depth]
model:
  backbone: {name: test_resnet, pretrained: nowhere.safetensors}
  sharing: {type: cross_stitch}
"""


def build(
    sharing: str, backbone: str = "test_resnet", tasks: list[TaskSpec] = TASKS, **options: Any
) -> MultiTaskModel:
    torch.manual_seed(0)
    model = create_model(backbone, tasks, sharing, decoder_options={"channels": 8}, **options)
    return model.eval()


def text(renderable: object) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def cells(renderable: object) -> list[list[str]]:
    lines = text(renderable).splitlines()
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")
    ]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *map(str, arguments)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def image_file(folder: Path) -> Path:
    path = folder / "room.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    return path


def test_saved_bytes_of_a_convolution_and_a_relu() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))
    # The images; the output of the ReLU, which it and the second convolution keep; no weights.
    assert saved_bytes(net, torch.zeros(2, 3, 10, 12)) == 4 * 2 * (3 + 8) * 120


def test_independent_costs_are_those_of_the_tasks_alone() -> None:
    costs = measure_costs(build("independent"), 60, 96)
    assert costs.whole.macs == sum(cost.macs for cost in costs.alone.values())
    padded_image = 4 * 3 * 64 * 96  # all trunks read one and the same
    assert costs.whole.saved == sum(cost.saved for cost in costs.alone.values()) - 3 * padded_image
    assert costs.shared == 0
    assert costs.parameters - sum(costs.own.values()) == UNREAD


@pytest.mark.parametrize("sharing", ["hard", "cross_stitch", "nddr", "mtan"])
def test_one_pass_costs_less_than_one_per_task(sharing: str) -> None:
    model = build(sharing, tasks=TASKS[::3])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs = measure_costs(model, 64, 96)
    assert list(costs.alone) == ["semseg", "detection"]
    assert max(cost.macs for cost in costs.alone.values()) < costs.whole.macs
    assert costs.whole.macs < sum(cost.macs for cost in costs.alone.values())
    assert max(cost.saved for cost in costs.alone.values()) < costs.whole.saved
    assert costs.whole.saved < sum(cost.saved for cost in costs.alone.values())
    assert costs.parameters - costs.shared - sum(costs.own.values()) == (
        0 if sharing == "hard" else UNREAD
    )
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_image_of_a_single_pixel_at_the_end_of_the_backbone() -> None:
    assert measure_costs(build("hard", tasks=TASKS[:1]), 32, 32).whole.saved > 0


def test_costs_table_has_the_ratios() -> None:
    alone = {"a": Cost(10**9, 2**20), "b": Cost(3 * 10**9, 3 * 2**20)}
    rows = cells(
        costs_table(Costs(64, 96, 1207, 1000, {"a": 150, "b": 50}, Cost(2 * 10**9, 2**21), alone))
    )
    assert rows == [
        ["whole network", "1,207", "2.000", "2.0"],
        ["shared", "1,000", "", ""],
        ["a", "150", "1.000", "1.0"],
        ["b", "50", "3.000", "3.0"],
        ["reached by no loss", "7", "", ""],
        ["sum of the tasks alone", "", "4.000", "4.0"],
        ["whole / sum", "", "0.500", "0.500"],
    ]


@pytest.mark.parametrize(
    ("sharing", "attached"),
    [
        ("hard", ["-"] * 4),
        ("independent", ["-"] * 4),
        ("cross_stitch", [f"cross-stitch unit 4 x 4 x {c}" for c in CHANNELS]),
        ("nddr", [f"NDDR: per task 1x1 conv {4 * c} -> {c} and BN" for c in CHANNELS]),
    ],
)
def test_stages_and_what_is_attached(sharing: str, attached: list[str]) -> None:
    model = build(sharing)
    rows = cells(stages_table(model.sharing))
    assert [row[:3] for row in rows] == [
        ["1", "4", "32"],
        ["2", "8", "48"],
        ["3", "16", "192"],
        ["4", "32", "96"],
    ]
    assert [row[4] for row in rows] == attached
    backbone = model.sharing.backbones[0]
    assert sum(int(row[3].replace(",", "")) for row in rows) == sum(
        p.numel() for p in backbone.parameters()
    )
    added = [0 if row[5] == "-" else int(row[5].replace(",", "")) for row in rows]
    assert sum(added) == sum(p.numel() for p in model.sharing.unit_parameters())


def test_stages_of_mtan_say_what_its_attention_sees() -> None:
    model = build("mtan", "test_convnext")
    rows = cells(stages_table(model.sharing))
    halves = model.sharing.backbone.halves
    assert any(half.path for half in halves)
    for i, (row, half) in enumerate(zip(rows, halves, strict=True)):
        assert row[4] == f"per task attention, sees {half}" + (" + refining conv" if i else "")
    added = sum(int(row[5].replace(",", "")) for row in rows)
    assert added == sum(
        p.numel()
        for part in ("attention", "refine")
        for p in getattr(model.sharing, part).parameters()
    )


def test_a_backbone_with_one_body_is_a_sentence() -> None:
    sentence = stages_table(build("independent", "test_vit").sharing)
    assert isinstance(sentence, str)
    assert sentence.startswith("4 backbones test_vit, one per task")
    assert (
        "one body that cannot be cut into stages, and maps of 64, 64, 64, 64 channels" in sentence
    )


def test_mixing_of_cross_stitch_is_mean_and_spread_over_channels() -> None:
    model = build("cross_stitch", tasks=TASKS[:2])
    alpha = model.sharing.units[1].alpha
    with torch.no_grad():
        alpha[0, 1] = torch.arange(48.0)
    mean, spread = mixing(model.sharing)[1]
    assert spread is not None
    torch.testing.assert_close(mean, torch.tensor([[0.9, 23.5], [0.1, 0.9]]))
    torch.testing.assert_close(spread, torch.tensor([[0.0, ((48**2 - 1) / 12) ** 0.5], [0.0, 0.0]]))


def test_mixing_of_nddr_is_the_share_of_the_block_norms() -> None:
    model = build("nddr", tasks=TASKS[:2])
    conv = model.sharing.units[0].reduce["depth"][0]
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, :32] = 3.0  # depth draws from semseg
        conv.weight[:, 32:] = -1.0
    shares, spread = mixing(model.sharing)[0]
    assert spread is None
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0.0], [0.75, 0.25]]))


def test_masks_are_those_by_which_the_network_reads_the_image() -> None:
    model = build("mtan", input_size=(64, 96))
    image = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    seen, found = masks(model, model.sharing, image)
    assert seen.shape == (64, 96, 3)
    assert list(found) == ["semseg", "depth", "normals", "detection"]
    for stages in found.values():
        assert [tuple(mask.shape) for mask in stages] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        assert all(0 <= mask.min() <= mask.max() <= 1 for mask in stages)


def test_the_input_of_a_mixture_is_that_of_its_first_set() -> None:
    def size(first: str, *overrides: str) -> tuple[int, int] | None:
        rooms = "{type: rooms, name: second, size: [96, 96]}"
        sets = f"sets: [{{name: first, {first}}}, {rooms}]"
        text = f"data: {{type: mixture, {sets}}}\nmodel: {{backbone: {{name: test_resnet}}}}\n"
        return input_size(parse_config(text, overrides=overrides))

    crop = "transforms: {train: [{type: resize, size: [40, 50]}, {type: random_crop, size: [32, 48]}, {type: to_gray}]}"
    assert size("type: rooms, size: [64, 80]") == (64, 80)
    assert size(f"type: folder, root: a, {crop}") == (32, 48)
    assert size("type: folder, root: a") is None
    assert size("type: folder, root: a", "model.input_size=[64, 96]") == (64, 96)


def test_a_picture_is_written(tmp_path: Path) -> None:
    paths, left_out = draw(
        build("nddr", tasks=TASKS[:2]), tmp_path / "new", np.zeros((40, 60, 3), np.uint8)
    )
    assert paths == [tmp_path / "new" / "nddr.png"]
    assert cv2.imread(str(paths[0])).shape[2] == 3
    assert left_out == ["--image is not used: only mtan has masks"]


def test_what_is_not_drawn_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    for sharing in ("hard", "independent"):
        paths, (reason,) = draw(build(sharing), folder, None)
        assert not paths
        assert reason == f"nothing to draw: {sharing} sharing attaches nothing to the backbone"
    assert draw(build("mtan"), folder, None) == (
        [],
        ["nothing drawn: mtan's masks are those of an image, give --image FILE"],
    )
    assert not folder.exists()


def test_a_config_is_inspected_without_pretrained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    assert run("tiny.yaml", "model.decoder.channels=16") == 0
    printed = capsys.readouterr().out
    assert "test_resnet -> fpn (16 channels) -> 2 heads, cross_stitch sharing" in printed
    assert "one image of 64 x 96" in printed
    assert "wrote" not in printed
    assert run("tiny.yaml", "--output", "out") == 0
    assert f"wrote {Path('out') / 'cross_stitch.png'}" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "out"}


def test_a_model_is_inspected_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(build("mtan", tasks=TASKS[:2], input_size=(64, 64)), tmp_path / "mine")
    assert run("mine", "--image", image_file(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "one image of 64 x 64" in printed
    assert f"wrote {Path('inspection') / 'mine' / 'mtan.png'}" in printed


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    assert run("mine", "seed=1") == 2
    assert (
        "seed=1: only a config (*.yaml) can be changed, 'mine' is a model"
        in capsys.readouterr().err
    )
    assert run("no_such_model") == 2
    assert "does not exist" in capsys.readouterr().err
    assert run(config, "--image", tmp_path / "none.png") == 2
    assert "none.png" in capsys.readouterr().err
    assert run(config, "--output", config) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
