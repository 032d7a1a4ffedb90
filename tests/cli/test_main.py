"""The programs as a user starts them: exit codes, one-line messages, and the whole path from config
to predictions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionmtl.cli.main import main
from visionmtl.config.load import load_config
from visionmtl.data.rooms.dataset import RoomsDataset

ROOT = Path(__file__).parents[2]
CONFIG = """
data:
  type: rooms
  size: [64, 64]
  train: {samples: 6, drop_labels: {depth: 0.5}}
  val: {samples: 3}
model:
  backbone: {name: test_resnet}
  decoder: {channels: 16}
  heads: {semseg: {channels: 8}, depth: {channels: 8}, normals: {channels: 8}, detection: {channels: 8}}
  input_size: [64, 64]
trainer: {epochs: 1, batch_size: 2}
logging: {every: 1, pictures: 1}
"""


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run("train", config, "--output-dir", folder, "--device", "cpu", "seed=3") == 0
    return folder


def test_train_leaves_a_complete_run_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "model",
        "tensorboard",
    }
    assert load_config(trained / "config.yaml").seed == 3
    assert list((trained / "pictures").glob("*.jpg"))
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    counts = next(
        line["samples"] for line in lines if line["split"] == "train" and "samples" in line
    )
    assert counts["semseg"] == 6
    assert counts["depth"] < 6


def test_train_resumes_a_finished_run_without_training(trained: Path, config: Path) -> None:
    before = (trained / "checkpoints" / "best.pt").read_bytes()
    assert (
        run(
            "train",
            config,
            "--output-dir",
            trained,
            "--device",
            "cpu",
            "seed=3",
            "--resume",
            "auto",
        )
        == 0
    )
    assert (trained / "checkpoints" / "best.pt").read_bytes() == before


def test_train_refuses_a_folder_that_is_not_empty(
    trained: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", config, "--output-dir", trained) == 2
    assert "--resume auto" in one_error_line(capsys)


def test_overrides_stand_anywhere_and_print_config_is_complete(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", config, "seed=1", "--print-config", "optimizer.lr=1e-2") == 0
    printed = capsys.readouterr().out
    assert "seed: 1" in printed
    assert "lr: 0.01" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.yaml"], "missing.yaml"),
        (["train", "{config}", "trainer.epochz=1"], "did you mean"),
        (["train", "{config}", "--resume", "missing.pt"], "missing.pt"),
        (["train", "{config}", "--device", "cuda:7"], "not available"),
        (["train", "{config}", "--device", "abacus"], "abacus"),
        (["train", "{config}", "--limit-batches", "0"], "at least 1"),
        (["train", "{config}", "--limit-batches", "x"], "must be a whole number, got 'x'"),
        (["train", "{config}", "--no-such-flag"], "--no-such-flag (see visionmtl train --help)"),
        (["train", "{config}", "model.backbone.name=resnet1234"], "resnet1234"),
        (["train", "{config}", "optimizer.name=adamv"], "adamv"),
        (["train", "{config}", "weighting.weights={dept: 1.0}"], "dept"),
        (["train", "{config}", "losses.depth={type: l3}"], "l3"),
        (["train"], "config"),
        (["eval", "--model", "missing"], "missing"),
        (["eval", "--model", "missing", "c.yaml", "--data", "d"], "not both"),
        (["eval", "--model", "missing", "--data", "d", "--workers", "-1"], "at least 0, got -1"),
        (["predict", "x.jpg", "--model", "missing", "--output", "out"], "missing"),
        (["predict", "x.jpg", "--model", "missing", "--output", "out", "--size", "big"], "'big'"),
        (["check-data", "missing"], "missing"),
        (["check-data", "{empty}"], "no data set"),
        (["compare", "missing"], "--baseline"),
        (["compare", "missing", "--baseline", "x"], "missing: no run folder"),
        (
            ["compare", "missing", "--baseline", "x", "--output", "missing/x.md"],
            "--output: 'missing/x.md'",
        ),
        (["zoo", "show", "no_such_model"], "no_such_model"),
        (["zoo", "show"], "one name"),
        (["dance"], "dance"),
    ],
)
def test_usage_mistakes_are_one_line_and_exit_with_2(
    arguments: list[str],
    message: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        argument.replace("{config}", str(config)).replace("{empty}", str(tmp_path))
        for argument in arguments
    ]
    if arguments[:1] == ["train"] and "--output-dir" not in arguments and len(arguments) > 1:
        arguments += ["--output-dir", str(tmp_path / "run")]
    assert run(*arguments) == 2
    assert message in one_error_line(capsys)


def test_every_mistake_of_an_error_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(names: list[str]) -> None:
        raise ValueError("c.yaml: data.rot: unknown key\n\nc.yaml: seed: must be a number\n")

    monkeypatch.setattr("visionmtl.cli.zoo.zoo_verify", fail)
    assert run("zoo", "verify") == 2
    assert capsys.readouterr().err.splitlines() == [
        "visionmtl: error: c.yaml: data.rot: unknown key",
        "visionmtl: error: c.yaml: seed: must be a number",
    ]


def test_the_error_of_a_loader_process_is_its_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(names: list[str]) -> None:
        raise ValueError("Caught ValueError in worker 0.\nTraceback ...\nValueError: a.png: bad")

    monkeypatch.setattr("visionmtl.cli.zoo.zoo_verify", fail)
    assert run("zoo", "verify") == 2
    assert one_error_line(capsys) == "visionmtl: error: a.png: bad"


def test_a_plugin_is_loaded_before_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text("raise ValueError('the plugin was run')")
    assert run("zoo", "list", "--plugin", plugin) == 2
    assert "the plugin was run" in one_error_line(capsys)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_eval_of_a_run_prints_a_table_and_writes_json(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eval", "--model", trained, "--json", tmp_path / "out.json", "--device", "cpu") == 0
    results = json.loads((tmp_path / "out.json").read_text())
    assert set(results) == {"semseg", "depth", "normals", "detection", "samples"}
    assert {"miou", "pixel_accuracy", "per_class"} <= set(results["semseg"])
    assert {"abs_err", "abs_rel", "rmse", "log10", "delta1", "delta2", "delta3"} <= set(
        results["depth"]
    )
    assert {"mean", "median", "within_11.25", "within_22.5", "within_30"} <= set(results["normals"])
    assert {"map", "map_50", "map_75", "per_class"} <= set(results["detection"])
    assert results["samples"] == {"total": 3, "semseg": 3, "depth": 3, "normals": 3, "detection": 3}
    assert "rmse" in capsys.readouterr().out
    last = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()][-1]
    assert results["depth"]["rmse"] == pytest.approx(last["depth"]["rmse"], rel=1e-4)


def test_eval_on_a_folder_matches_classes_by_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set", reverse_classes=True)
    assert (
        run(
            "eval",
            "--model",
            trained,
            "--data",
            root,
            "--split",
            "val",
            "--json",
            tmp_path / "a.json",
        )
        == 0
    )
    results = json.loads((tmp_path / "a.json").read_text())
    own = tmp_path / "b.json"
    assert run("eval", "--model", trained, "--tasks", "semseg", "--json", own) == 0
    assert results["semseg"]["miou"] == pytest.approx(
        json.loads(own.read_text())["semseg"]["miou"], abs=0.5
    )
    capsys.readouterr()
    other = write_folder(tmp_path / "other", reverse_classes=False, rename="sofa")
    assert run("eval", "--model", trained, "--data", other, "--split", "val") == 2
    message = one_error_line(capsys)
    assert "sofa" in message
    assert "ceiling" in message


def test_predict_does_the_good_files_and_reports_the_bad_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = RoomsDataset(1, (48, 60))[0].image
    cv2.imwrite(str(tmp_path / "good.png"), image)
    (tmp_path / "bad.jpg").write_text("no image")
    assert (
        run(
            "predict",
            tmp_path / "good.png",
            tmp_path / "bad.jpg",
            "--model",
            trained,
            "--output",
            tmp_path / "o",
        )
        == 1
    )
    assert "bad.jpg" in capsys.readouterr().err.strip().splitlines()[-1]
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert {
        "good_panel.jpg",
        "good_semseg.png",
        "good_depth.png",
        "good_normals.png",
        "good_detection.json",
    } <= names


def test_predict_into_a_place_that_cannot_be_made_fails_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), RoomsDataset(1, (48, 60))[0].image)
    (tmp_path / "file").touch()
    assert (
        run(
            "predict",
            tmp_path / "good.png",
            "--model",
            trained,
            "--output",
            tmp_path / "file" / "out",
        )
        == 1
    )
    assert "file" in one_error_line(capsys)


def test_check_data_finds_the_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "set", reverse_classes=False)
    assert run("check-data", root, "--overview", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet_val.png").is_file()
    (root / "val" / "semseg" / "rooms_1.png").write_bytes(b"")
    assert run("check-data", root) == 1
    assert "rooms_1" in capsys.readouterr().out


def test_zoo_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zoo", "list") == 0
    assert run("zoo", "verify") == 0
    assert "verified" in capsys.readouterr().out


def test_a_sample_that_breaks_in_mid_run_fails_with_its_path(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", reverse_classes=False, split="train")
    write_folder(tmp_path / "set", reverse_classes=False)
    path = root / "train" / "depth" / "rooms_1.png"
    path.write_bytes(path.read_bytes()[:100])
    config = tmp_path / "folder.yaml"
    config.write_text(
        CONFIG.replace(
            CONFIG[CONFIG.index("  type: rooms") : CONFIG.index("model:")],
            f"  type: folder\n  root: {root}\n",
        )
    )
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "train.py",
            config,
            "--output-dir",
            tmp_path / "run",
            "trainer.batch_size=3",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    error = [line for line in done.stderr.splitlines() if "failed:" in line]
    assert len(error) == 1
    assert str(path) in error[0]


def write_folder(
    root: Path, reverse_classes: bool, rename: str | None = None, split: str = "val"
) -> Path:
    """The validation rooms of the tiny config as a folder set, with the classes in another order or
    one renamed.
    """
    dataset = RoomsDataset(3, (64, 64), seed=1)
    specs = {spec.name: list(spec.classes) for spec in dataset.tasks}
    order = {
        name: (classes[::-1] if reverse_classes else classes) for name, classes in specs.items()
    }
    names = {name: list(classes) for name, classes in order.items()}
    if rename:
        names["semseg"][0] = rename
    tasks = [
        f"{{name: semseg, kind: semseg, classes: [{', '.join(names['semseg'])}], ignore_value: 255}}",
        "{name: depth, kind: depth, unit: metre, scale: 0.001, invalid_value: 0, max_depth: 10.0}",
        "{name: normals, kind: normals}",
        f"{{name: detection, kind: detection, classes: [{', '.join(names['detection'])}]}}",
    ]
    for folder in ("rgb", "semseg", "depth", "normals"):
        (root / split / folder).mkdir(parents=True)
    (root / "dataset.yaml").write_text(
        "name: rooms\ntasks:\n" + "".join(f"  - {task}\n" for task in tasks)
    )
    images, annotations = [], []
    for i in range(len(dataset)):
        sample, stem = dataset[i], f"rooms_{i}"
        ids = np.array([order["semseg"].index(c) for c in specs["semseg"]], np.uint8)[
            sample.targets["semseg"].value
        ]
        normals = np.round(sample.targets["normals"].value * 127).astype(int) + 128
        for folder, array in {
            "rgb": sample.image[..., ::-1],
            "semseg": ids,
            "depth": np.round(sample.targets["depth"].value * 1000).astype(np.uint16),
            "normals": normals.astype(np.uint8)[..., ::-1],
        }.items():
            cv2.imwrite(str(root / split / folder / f"{stem}.png"), array)
        images.append({"id": i, "file_name": f"{stem}.png", "width": 64, "height": 64})
        boxes = sample.targets["detection"]
        for (x1, y1, x2, y2), label in zip(
            boxes.boxes.tolist(), boxes.labels.tolist(), strict=True
        ):
            category = order["detection"].index(specs["detection"][label])
            annotations.append(
                {
                    "image_id": i,
                    "category_id": category,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": 0,
                }
            )
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    categories = [{"id": i, "name": name} for i, name in enumerate(order["detection"])]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / split / "detection.json").write_text(json.dumps(content))
    return root
